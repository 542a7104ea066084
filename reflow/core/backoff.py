"""How long to wait before trying again: growing waits, with an end and some chance in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Backoff(NamedTuple):
    """Waits of ``initial_s``, times ``factor`` each, up to ``longest_s``; ``retries`` of them in all.

    With ``jitter`` j, a wait w becomes one between (1 - j)·w and w, so that many do not try at once.
    """

    initial_s: float
    longest_s: float
    factor: float
    retries: int
    jitter: float = 0.0

    def wait_s(self, retry: int, chance: float = 0.0) -> float:
        """Seconds before retry number ``retry`` (from 0); ``chance`` in [0, 1) is what the jitter takes."""
        try:
            longest = min(self.longest_s, self.initial_s * self.factor**retry)
        except OverflowError:
            longest = self.longest_s
        return longest * (1.0 - self.jitter * chance)

    def waits_s(self) -> Iterator[float]:
        """All waits without jitter."""
        return (self.wait_s(retry) for retry in range(self.retries))
