"""How long a run will take yet: from how long its execs took so far, by identifier.

Only what is known to be left counts: continuations may bring up more. Changed by the thread that runs the
event loop, read by the one that draws.
"""

from __future__ import annotations

import time
from collections import Counter


class Estimate:
    """Learns from execs that end."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._running: dict[object, tuple[str, float]] = {}
        self._sums: dict[str, tuple[float, int]] = {}

    def waits(self, ident: str) -> None:
        """Something waits for its turn."""
        self._waiting[ident] += 1

    def begins(self, key: object, ident: str) -> None:
        """It runs now; ``key`` tells it from others."""
        self._waiting[ident] -= 1
        self._running[key] = (ident, time.monotonic())

    def ends(self, key: object, ident: str, *, counts: bool) -> None:
        """It has ended; its time is of use only if it ``counts``."""
        begun = self._running.pop(key, None)
        if begun is None:
            self._waiting[ident] -= 1
        elif counts:
            total, count = self._sums.get(ident, (0.0, 0))
            self._sums[ident] = (total + time.monotonic() - begun[1], count + 1)

    def left_s(self) -> float | None:
        """Seconds until all that is known will be done; None when nothing can be said."""
        sums, running = dict(self._sums), list(self._running.values())
        ended = sum(count for _, count in sums.values())
        if not ended or not (running or self._waiting.total()):
            return None
        usual = sum(total for total, _ in sums.values()) / ended
        now = time.monotonic()
        work_s = 0.0
        longest_s = 0.0
        for ident, began in running:
            rest_s = max(0.0, _mean(sums, ident, usual) - (now - began))
            longest_s = max(longest_s, rest_s)
            work_s += rest_s
        for ident, count in list(self._waiting.items()):
            work_s += max(0, count) * _mean(sums, ident, usual)
        return max(longest_s, work_s / max(1, len(running)))


def _mean(sums: dict[str, tuple[float, int]], ident: str, usual: float) -> float:
    total, count = sums.get(ident, (usual, 1))
    return total / count
