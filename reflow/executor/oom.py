"""The kernel's own record of what its out-of-memory killer did.

Read only after a command failed, from /dev/kmsg, where that is allowed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator

_KMSG = "/dev/kmsg"
# Old kernels say "Kill process", newer ones "Killed process".
_KILLED = re.compile(rb"^\d+,\d+,(\d+),[^;]*;.*(?:Out of memory|out of memory): Kill(?:ed)? process (\d+)")
_MAX_RECORDS = 50_000


def was_killed(pids: Collection[int], start_s: float, end_s: float, kmsg: str = _KMSG) -> str:
    """Say which of ``pids`` the kernel killed for memory between two times, or nothing.

    Times are in seconds since the epoch.
    """
    if not pids:
        return ""
    boot_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0
    for record in _records(kmsg):
        match = _KILLED.match(record)
        if match is None:
            continue
        when_s = boot_s + int(match[1]) / 1e6
        # The record's clock and ours differ by some milliseconds.
        if int(match[2]) in pids and start_s - 0.1 <= when_s <= end_s + 0.1:
            return f"kernel, process {int(match[2])}"
    return ""


def _records(path: str) -> Iterator[bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for _ in range(_MAX_RECORDS):
            try:
                record = os.read(fd, 8192)
            except BrokenPipeError:
                continue  # records were overwritten while we read
            except OSError:
                return
            if not record:
                return
            yield from record.splitlines()
    finally:
        os.close(fd)
