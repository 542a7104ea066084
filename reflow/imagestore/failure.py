"""What goes wrong with images, before it is known for whom; and which of it is worth another try."""

from __future__ import annotations

from reflow.core.errors import Kind

PASSING = frozenset({Kind.TIMEOUT, Kind.TEMPORARY, Kind.UNAVAILABLE, Kind.NET, Kind.INTEGRITY})
"""Kinds that may be gone at the next try. (A damaged download may be whole the next time.)"""


class ImageError(Exception):
    """An image cannot be had; the text says from where and why.

    ``wait_s`` is how long the other side asks us to wait before another try. ``is_unreachable`` tells that
    there is no other side: a machine without a network stays so for a while.
    """

    def __init__(self, kind: Kind, text: str, *, wait_s: float = 0, is_unreachable: bool = False) -> None:
        super().__init__(text)
        self.kind = kind
        self.wait_s = wait_s
        self.is_unreachable = is_unreachable

    def after(self, tries: int) -> ImageError:
        """The same, when it was met at the last of several tries. Damage keeps its kind."""
        kind = Kind.INTEGRITY if self.kind is Kind.INTEGRITY else Kind.TOO_MANY_TRIES
        return ImageError(kind, f"{self} (the last of {tries} tries)")


class StoppedError(Exception):
    """Whoever wanted the image does not want it any more."""
