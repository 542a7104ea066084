"""What an exec used: statistics of gauges, and where the samples come from.

Gauges: ``cpu`` (cores busy), ``mem`` (bytes, page cache left out), ``disk`` (bytes below ``return``) and
``tmp`` (bytes below ``tmp``). The first two are sampled once a second when an exec has run for a second, the
others when it ends.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime

from reflow.core.execconfig import ProfileEntry


class Stats:
    """Running statistics of some gauges."""

    __slots__ = ("_series", "gauges")

    def __init__(self) -> None:
        self.gauges: dict[str, float] = {}
        self._series: dict[str, _Series] = {}

    def observe(self, name: str, value: float, when_s: float) -> None:
        """Note a gauge's value at a time (seconds since the epoch)."""
        self.gauges[name] = value
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = _Series(when_s)
        series.observe(value, when_s)

    def profile(self) -> dict[str, ProfileEntry]:
        """The statistics so far."""
        return {name: series.entry() for name, series in self._series.items()}


class _Series:
    __slots__ = ("first_s", "last_s", "max", "n", "squares", "sum")

    def __init__(self, first_s: float) -> None:
        self.first_s = self.last_s = first_s
        self.n = 0
        self.sum = self.squares = self.max = 0.0

    def observe(self, value: float, when_s: float) -> None:
        self.n += 1
        self.sum += value
        self.squares += value * value
        self.max = max(self.max, value)
        self.last_s = when_s

    def entry(self) -> ProfileEntry:
        mean = self.sum / self.n
        return ProfileEntry(
            max=self.max,
            mean=mean,
            var=max(0.0, self.squares / self.n - mean * mean),
            n=self.n,
            first=datetime.fromtimestamp(self.first_s, UTC),
            last=datetime.fromtimestamp(self.last_s, UTC),
        )


def tree_size(path: str, limit: int = 0) -> int:
    """Bytes of all files below a directory, links not followed; -1 when there are over ``limit`` entries."""
    total = 0
    met = 0
    pending = [path]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    met += 1
                    if limit and met > limit:
                        return -1
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += _size(entry)
        except OSError:
            continue
    return total


def _size(entry: os.DirEntry[str]) -> int:
    try:
        info = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    return info.st_size if stat.S_ISREG(info.st_mode) else 0
