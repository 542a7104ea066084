"""Processes of this machine that tests begin, and look for."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

_PENDING = re.compile(r"^(?:SigPnd|ShdPnd):\t([0-9a-f]+)$", re.MULTILINE)
_EXITING = 0x4
"""The kernel's flag of a process that ends."""


def new_doze() -> str:
    """A command that takes a day, and that nobody else has."""
    return f"sleep 86400.{int.from_bytes(os.urandom(4)):010}"


def processes_with(mark: str) -> list[str]:
    """Command lines of the processes that have ``mark`` in theirs, but for this one.

    One that was killed does nothing any more, even if it has had no time yet to be gone: it is none.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if mark in text and not _is_killed(entry):
                found.append(text)
        except OSError:
            continue
    return found


def _is_killed(process: Path) -> bool:
    pending = [int(mask, 16) for mask in _PENDING.findall((process / "status").read_text())]
    flags = int((process / "stat").read_text().rpartition(")")[2].split()[6])
    return any(mask >> (signal.SIGKILL - 1) & 1 for mask in pending) or bool(flags & _EXITING)
