"""What execs that are processes of this machine use: their trees are sampled from /proc.

With a hard limit, an exec whose memory is above what it asked for is to be killed; shared pages are then
counted once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from reflow.disk.blocking import Blocking
from reflow.executor import proctree
from reflow.executor.localexec import LocalExec


class TreeMeter:
    """Samples execs by the tree below their first process.

    ``files`` does what blocks; ``kill`` ends an exec, whose ``oom`` has been set to say why.
    """

    def __init__(self, machinery: str, files: Blocking, kill: Callable[[LocalExec], None]) -> None:
        self._machinery = machinery
        self._files = files
        self._kill = kill
        self._usage: dict[int, tuple[float, float]] = {}

    def forget(self, pid: int) -> None:
        """The process has ended, and its number may be another's soon."""
        self._usage.pop(pid, None)

    async def sample(self, running: list[LocalExec], *, is_hard: bool) -> None:
        """Note what execs use now; with ``is_hard``, kill those that use more memory than they asked for."""
        processes = await self._files(proctree.scan)
        now_s = time.time()
        for each in running:
            if each.state != "running" or not each.pid:
                continue
            family = proctree.tree(each.pid, processes)
            each.pids.update(process.pid for process in family)
            rss_bytes = sum(process.rss_bytes for process in family)
            each.stats.observe("mem", rss_bytes, now_s)
            self._observe_cpu(each, sum(process.cpu_s for process in family), now_s)
            limit_bytes = each.config.resources.amount("mem")
            if is_hard and 0 < limit_bytes < rss_bytes:
                await self._enforce(each, family, limit_bytes)

    def _observe_cpu(self, running: LocalExec, cpu_s: float, now_s: float) -> None:
        before_s, before_cpu_s = self._usage.get(running.pid, (running.started_s, 0.0))
        self._usage[running.pid] = (now_s, cpu_s)
        if now_s > before_s:
            running.stats.observe("cpu", max(0.0, cpu_s - before_cpu_s) / (now_s - before_s), now_s)

    async def _enforce(self, running: LocalExec, family: list[proctree.Process], limit_bytes: float) -> None:
        """Kill an exec whose memory, with shared pages counted once, is above its limit."""
        used_bytes = await self._files(proctree.proportional_bytes, [process.pid for process in family])
        if used_bytes <= limit_bytes or running.state != "running":
            return
        running.oom = f"{self._machinery}, {int(used_bytes)} bytes used, {int(limit_bytes)} asked for"
        self._kill(running)
