"""What a container uses, from the files of its control group (version 1 or 2)."""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

_ROOT = "/sys/fs/cgroup"
_CACHE_V1 = re.compile(rb"^total_cache (\d+)", re.MULTILINE)
_CACHE_V2 = re.compile(rb"^file (\d+)", re.MULTILINE)
_CPU_V2 = re.compile(rb"^usage_usec (\d+)", re.MULTILINE)


class Usage(NamedTuple):
    """Memory without page cache; cores busy since the last reading, None at the first."""

    memory_bytes: int
    cpus: float | None


class Meter:
    """Reads one control group."""

    def __init__(self, memory: str, cpu: str, is_v2: bool) -> None:
        self._memory = memory
        self._cpu = cpu
        self._is_v2 = is_v2
        self._last: tuple[float, float] | None = None

    def read(self) -> Usage | None:
        """What the group uses now; None when it is gone. Blocks."""
        try:
            memory_bytes = self._memory_bytes()
            cpu_s = self._cpu_s()
        except (OSError, ValueError):
            return None
        now_s = time.monotonic()
        cpus = None
        if self._last is not None and now_s > self._last[0]:
            cpus = max(0.0, cpu_s - self._last[1]) / (now_s - self._last[0])
        self._last = (now_s, cpu_s)
        return Usage(memory_bytes, cpus)

    def _memory_bytes(self) -> int:
        name, cache = ("memory.current", _CACHE_V2) if self._is_v2 else ("memory.usage_in_bytes", _CACHE_V1)
        used = int(_read(f"{self._memory}/{name}"))
        match = cache.search(_read(f"{self._memory}/memory.stat"))
        return max(0, used - (int(match[1]) if match else 0))

    def _cpu_s(self) -> float:
        if not self._is_v2:
            return int(_read(f"{self._cpu}/cpuacct.usage")) / 1e9
        match = _CPU_V2.search(_read(f"{self._cpu}/cpu.stat"))
        return int(match[1]) / 1e6 if match else 0.0


def meter_of(pid: int) -> Meter | None:
    """The meter of the group that a process is in; None when it cannot be seen from here."""
    try:
        lines = _read(f"/proc/{pid}/cgroup").decode().splitlines()
    except OSError:
        return None
    groups = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    if "memory" in groups:
        memory = f"{_ROOT}/memory{groups['memory']}"
        cpu = f"{_ROOT}/cpuacct{groups.get('cpuacct', '')}"
        return Meter(memory, cpu, False) if os.path.isdir(memory) and os.path.isdir(cpu) else None
    path = f"{_ROOT}{groups.get('', '')}"
    return Meter(path, path, True) if os.path.exists(f"{path}/memory.current") else None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
