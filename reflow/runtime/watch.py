"""What is done every ten seconds while a run lives: progress, a sign of life, a look at the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from reflow.core.units import format_size
from reflow.disk.filesystem import disk_space
from reflow.eval import EvalStats
from reflow.runtime.estimate import Estimate
from reflow.runtime.log import Log
from reflow.runtime.record import Record
from reflow.runtime.status import Group, elapsed_text

TICK_S = 10.0
KEEPALIVE_TICKS = 9
DISK_TICKS = 6
LOW_DISK_SHARE = 0.05


class Watch:
    """Watches over one run. ``stats`` answers with the counts of the evaluation, if there is one.

    ``estimate`` is to be told what waits, runs and ends.
    """

    def __init__(
        self, log: Log, group: Group, stats: Callable[[], EvalStats | None], paths: Sequence[str]
    ) -> None:
        self._log = log
        self._group = group
        self._stats = stats
        self._paths = paths
        self._warned: set[str] = set()
        self.estimate = Estimate()
        self._began_s = time.monotonic()
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, record: Record) -> None:
        """Do it now, and again every ten seconds."""
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self.start, record)
        self._group.prune(time.monotonic())
        self._group.ask = self.progress_text
        self._group.show(self.progress_text())
        if self._ticks % KEEPALIVE_TICKS == KEEPALIVE_TICKS - 1:
            record.keep_alive()
        if self._ticks % DISK_TICKS == 0:
            self._look_at_disks()
        self._ticks += 1

    def stop(self) -> None:
        """Do it no more."""
        if self._timer is not None:
            self._timer.cancel()

    def progress_text(self) -> str:
        """The line beside the run's id."""
        parts = [f"elapsed: {elapsed_text(time.monotonic() - self._began_s)}"]
        stats = self._stats()
        if stats is not None:
            parts += [f"executing:{stats.running}"] if stats.running else []
            parts += [f"waiting:{stats.waiting}"] if stats.waiting else []
            parts.append(f"completed: {stats.completed}/{stats.total}")
            parts += [f"cached: {stats.cached}"] if stats.cached else []
            parts += [f"failed: {stats.failed}"] if stats.failed else []
        left_s = self.estimate.left_s()
        if left_s is not None and left_s >= 1:
            parts.append(f"about {elapsed_text(left_s)} left")
        return ", ".join(parts)

    def _look_at_disks(self) -> None:
        """Warn, once for each place, when its disk is nearly full."""
        for path in self._paths:
            free, total = disk_space(path)
            if total and free < LOW_DISK_SHARE * total and path not in self._warned:
                self._warned.add(path)
                share = f"{100 * free / total:.1f}% ({format_size(free)})"
                self._log.info(f"warning: only {share} of the disk of {path} is free; see reflow du")
