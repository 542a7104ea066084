"""What the control groups that this process is in allow it: memory, processors (versions 1 and 2)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress

_ROOT = "/sys/fs/cgroup"
_OWN = "/proc/self/cgroup"


def usable_cpus(root: str = _ROOT, groups: str = _OWN) -> int:
    """CPUs that this process may run on, or that its control group pays for when that is less; rounded up."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cpus = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min([cpus, *map(math.ceil, _quotas(root, groups))]))


def memory_limits(root: str = _ROOT, groups: str = _OWN) -> list[int]:
    """The limits of memory of our own control group and of all it is in, in bytes."""
    found = []
    for _, text in _settings("memory", "memory.max", "memory.limit_in_bytes", root, groups):
        with suppress(ValueError):  # "max" is no number
            found.append(int(text))
    return found


def _quotas(root: str, groups: str) -> Iterator[float]:
    """How many processors' time each group may have."""
    for path, text in _settings("cpu", "cpu.max", "cpu.cfs_quota_us", root, groups):
        with suppress(OSError, ValueError, ZeroDivisionError):
            if path.endswith("cpu.max"):
                quota, period = text.split()
            else:
                quota = text
                with open(f"{os.path.dirname(path)}/cpu.cfs_period_us", encoding="ascii") as file:
                    period = file.read()
            if int(quota) > 0:  # -1 is no limit
                yield int(quota) / int(period)


def _settings(controller: str, v2: str, v1: str, root: str, groups: str) -> Iterator[tuple[str, str]]:
    """The files that say one thing, and what they say."""
    for path in _files(controller, v2, v1, root, groups):
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            yield path, file.read()


def _files(controller: str, v2: str, v1: str, root: str, groups: str) -> list[str]:
    """Where settings of our own control group may be, and of all it is in.

    In a container the groups above may not be there, and its own is what we see as the root.
    """
    found = [f"{root}/{v2}", f"{root}/{controller}/{v1}"]
    with suppress(OSError), open(groups, encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            start, name = (f"{root}/{controller}", v1) if controllers else (root, v2)
            while path.strip("/"):
                found.append(f"{start}{path}/{name}")
                path = os.path.dirname(path)
    return found
