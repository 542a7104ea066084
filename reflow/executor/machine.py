"""What this machine has: memory, CPUs, disk, CPU features."""

from __future__ import annotations

import math
import os
from contextlib import suppress

from reflow.core.resources import Resources
from reflow.disk.controlgroup import memory_limits, usable_cpus

RESERVED_SHARE = 0.05
"""Share of the memory that is left to the system and to us."""

_UNKNOWN_DISK_BYTES = 2e12
_FEATURES = {"avx": "intel_avx", "avx2": "intel_avx2", "avx512f": "intel_avx512"}


def find_program(name: str) -> str | None:
    """The first executable file of that name on PATH. (What shutil has for this takes long to import.)"""
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory or ".", name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return None


def total_memory_bytes() -> int:
    """Memory of the machine, or of the control group that we are in when that is less."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *memory_limits()])


def local_resources(directory: str, memory_bytes: float = 0, cpus: float = 0) -> Resources:
    """Resources of this machine, or of a daemon that says what it has; disk is where ``directory`` is.

    Source: local/pool.go, (*Pool).Start.
    """
    memory = math.floor((memory_bytes or total_memory_bytes()) * (1 - RESERVED_SHARE))
    cores = float(cpus or usable_cpus())
    amounts = {"mem": float(memory), "cpu": cores, "disk": disk_bytes(directory)}
    amounts.update(dict.fromkeys(cpu_features(), cores))
    return Resources(amounts)


def disk_bytes(directory: str) -> float:
    """Size of the file system that a directory is on."""
    try:
        info = os.statvfs(directory)
    except OSError:
        return _UNKNOWN_DISK_BYTES
    return float(info.f_blocks * info.f_frsize)


def cpu_features(cpuinfo: str = "/proc/cpuinfo") -> list[str]:
    """The CPU features that programs can ask for and this machine has."""
    with suppress(OSError), open(cpuinfo, encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("flags"):
                flags = set(line.partition(":")[2].split())
                return [name for flag, name in _FEATURES.items() if flag in flags]
    return []
