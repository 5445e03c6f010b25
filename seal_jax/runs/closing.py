"""What all open things here share: a `with` block that ends with `close`."""

from typing import Self


class Closing:
    """A thing that is open until the end of its `with` block, or until `close`."""

    def close(self) -> None:
        """Lets it go."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
