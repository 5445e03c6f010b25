"""The doctor where little is installed: JAX, Flax and Optax are enough.

PYTHONPATH=FOLDER python -m seal_jax.doctor [--minutes=10] [--out=doctor.json] [--tiny]
PYTHONPATH=FOLDER python -m seal_jax.doctor --table=doctor.json    # for docs/performance.md
"""

import argparse
import sys

from seal_jax.doctor import examination, report
from seal_jax.runs import json_file
from seal_jax.runtime import terminal


def main() -> int:
    """Examines, or prints a table; the exit status is 1 where results are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m seal_jax.doctor", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", default="doctor.json")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--table", help="a file that --out wrote, as Markdown")
    flags = parser.parse_args()
    if flags.table:
        terminal.say(report.markdown(json_file.read(flags.table)))
        return 0
    found = examination.examine(
        minutes=flags.minutes, out=flags.out, tiny=flags.tiny, say=terminal.say
    )
    terminal.say(f"\n{report.text(found)}")
    return int(report.is_wrong(found))


if __name__ == "__main__":
    sys.exit(main())
