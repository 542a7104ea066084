"""The library behind floats: gmpy2, imported when the first float is met (30 ms)."""

from __future__ import annotations

from typing import Any

Float = Any
"""An ``mpfr``."""

FLOAT_BITS = 64


class Library:
    """gmpy2 with one context per precision; made when the first float is met."""

    _made: Library | None = None

    def __init__(self) -> None:
        import gmpy2

        self.mpfr = gmpy2.mpfr
        self.is_nan = gmpy2.is_nan
        self.is_inf = gmpy2.is_infinite
        self.is_signed = gmpy2.is_signed
        self._context = gmpy2.context
        self.contexts: dict[int, Any] = {}

    @classmethod
    def get(cls) -> Library:
        """The one library of the process."""
        made = cls._made
        if made is None:
            made = cls._made = Library()
        return made

    def context(self, bits: int) -> Any:
        """The context that rounds to so many bits."""
        context = self.contexts.get(bits)
        if context is None:
            context = self.contexts[bits] = self._context(precision=bits)
        return context
