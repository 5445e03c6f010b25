"""`python -m seal_jax`."""

import sys

from seal_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
