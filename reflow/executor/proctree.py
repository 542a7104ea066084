"""The processes of this machine, as /proc shows them: trees, what they use, whose they are.

Where there is no /proc nothing is seen: samples and leftovers are then missing, nothing else.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import NamedTuple

MARK = "REFLOW_EXEC"
"""Environment variable with an exec's directory: it tells an exec's processes, wherever they went."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_KILL_S = 10.0
_KILL_PAUSE_S = 0.02
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


class Process(NamedTuple):
    """One process. ``cpu_s`` has the time of reaped children; ``rss_bytes`` counts shared pages too.

    (The kernel counts pages for each CPU: those of a young process may read as none.) One that has ended is
    seen until its parent takes note.
    """

    pid: int
    parent: int
    session: int
    cpu_s: float
    rss_bytes: int
    has_ended: bool


def scan() -> dict[int, Process]:
    """All processes, by pid."""
    processes = {}
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdecimal() and (process := _read(int(name))) is not None:
                processes[process.pid] = process
    return processes


def tree(leader: int, processes: dict[int, Process]) -> list[Process]:
    """The processes of a session and their descendants."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    pending = [pid for pid, process in processes.items() if leader in (pid, process.session)]
    seen: set[int] = set()
    while pending:
        pid = pending.pop()
        if pid not in seen:
            seen.add(pid)
            pending += children.get(pid, ())
    return [processes[pid] for pid in seen]


def proportional_bytes(pids: Iterable[int]) -> int:
    """Memory of some processes with shared pages counted once (they are divided by their users)."""
    total = 0
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            match = _PSS.search(file.read())
            total += int(match[1]) * 1024 if match else 0
    return total


def command_lines(pids: Iterable[int]) -> list[str]:
    """The command lines of some processes."""
    lines = []
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
            lines.append(b" ".join(words).decode("utf-8", "replace"))
    return [line for line in lines if line]


def marked(directories: Collection[str]) -> list[int]:
    """Pids of the processes whose environment says that they belong to one of these execs."""
    if not directories:
        return []
    marks = {f"{MARK}={directory}".encode("utf-8", "surrogateescape") for directory in directories}
    pids = []
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if not name.isdecimal() or int(name) == os.getpid():
                continue
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if not marks.isdisjoint(file.read().split(b"\0")):
                    pids.append(int(name))
    return pids


def marked_directories(prefix: str) -> set[str]:
    """The directories, of those that begin with ``prefix``, whose processes live."""
    mark = f"{MARK}={prefix}".encode("utf-8", "surrogateescape")
    found = set()
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if not name.isdecimal() or int(name) == os.getpid():
                continue
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                for word in file.read().split(b"\0"):
                    if word.startswith(mark):
                        found.add(os.fsdecode(word[len(MARK) + 1 :]))
    return found


def kill_marked(directories: Collection[str]) -> None:
    """Kill the processes of these execs, wherever they have gone."""
    for _ in range(3):  # one that forks while we look is seen the next time
        pids = marked(directories)
        if not pids:
            return
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def kill_with_words(words: Collection[str]) -> None:
    """Kill the processes that have one of these words on their command lines."""
    wanted = {os.fsencode(word) for word in words}
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if not name.isdecimal() or int(name) == os.getpid():
                continue
            with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                if not wanted.isdisjoint(file.read().split(b"\0")):
                    os.kill(int(name), signal.SIGKILL)


def contained(directory: str, inside: str) -> list[int]:
    """Pids of the processes that see a directory of this machine as ``inside``: those of its container."""
    try:
        wanted = os.stat(directory)
    except OSError:
        return []
    pids = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError):
                found = os.stat(f"/proc/{name}/root{inside}")
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    pids.append(int(name))
    return pids


def kill_contained(directory: str, inside: str) -> bool:
    """Kill those processes; tell whether none is left. Blocks, for some seconds at most."""
    deadline_s = time.monotonic() + _KILL_S
    while pids := contained(directory, inside):
        if time.monotonic() > deadline_s:
            return False
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_KILL_PAUSE_S)
    return True


def _read(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name, in parentheses, may hold anything.
    fields = text[text.rindex(b")") + 2 :].split()
    ticks = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
    rss_bytes = int(fields[21]) * _PAGE_BYTES
    has_ended = fields[0] in (b"Z", b"X")
    return Process(pid, int(fields[1]), int(fields[3]), ticks / _TICKS_PER_S, rss_bytes, has_ended)
