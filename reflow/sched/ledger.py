"""What the runs of one user on one machine hold of it: a directory with a file for each run.

A run's file is locked (flock) for as long as its process lives, so whoever gets that lock knows that it is
dead; a name with the id of the machine's boot makes what was before a restart count no more. Files are read
and written under one more lock, held for microseconds. While it is alone a run reads nobody's file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from reflow.sched.sharing import ALONE, SILENT_S, Others, Units, Want, total_of

_LOCK = "lock"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_ROOM_BYTES = 8192
"""What a file takes from the start: a full disk is then no trouble later."""
_LOCK_WAIT_S = 0.5
_LOCK_PAUSE_S = 0.0005
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

Orphans = Callable[[str, int], Units]
"""Local directory and process of a dead run -> what execs of it that go on running hold."""


class Entry(NamedTuple):
    """What a run says: who it is, what its tasks hold, which of them waits longest, and when it said so."""

    pid: int
    local_dir: str
    held: Units
    want: Want | None
    at: float


class Ledger:
    """The part of one run in the ledger. Not for several threads. `open` and `turn` raise OSError.

    ``orphans`` says what goes on running of a dead run.
    """

    def __init__(self, directory: str, local_dir: str, orphans: Orphans) -> None:
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._directory = os.path.join(directory, _boot_id())
        self._local_dir = local_dir
        self._orphans = orphans
        self._lock_fd = -1
        self._own_fd = -1
        self._seen_ns = -1
        self._peers: list[str] = []

    def open(self) -> None:
        """Enter: from now on others take this run into account."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._lock_fd = os.open(self._path(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # It is locked before it has its name: nobody may take it for that of a dead run.
        fresh = self._path(f".{self.name}")
        self._own_fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._own_fd, fcntl.LOCK_EX)
        os.pwrite(self._own_fd, b"\n".ljust(_ROOM_BYTES), 0)
        os.rename(fresh, self._path(self.name))

    def close(self) -> None:
        """Leave: what this run holds is free."""
        if self._own_fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._path(self.name))
        for descriptor in (self._own_fd, self._lock_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._own_fd = self._lock_fd = -1

    @contextlib.contextmanager
    def turn(self, now: float) -> Iterator[Others | None]:
        """Look at the others while none of them does; None when somebody does not let go of the lock."""
        if not self._take_lock():
            yield None
            return
        try:
            yield self._look(now)
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def write(self, held: Units, want: Want | None, now: float) -> None:
        """Say what this run's tasks hold, and what waits. In a `turn`."""
        row = [os.getpid(), self._local_dir, held, None if want is None else [*want], now]
        os.pwrite(self._own_fd, _encode(row).encode() + b"\n", 0)

    def _take_lock(self) -> bool:
        deadline = None
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                deadline = deadline or time.monotonic() + _LOCK_WAIT_S
                if time.monotonic() > deadline:
                    return False
                time.sleep(_LOCK_PAUSE_S)
            else:
                return True

    def _look(self, now: float) -> Others:
        changed_ns = os.stat(self._directory).st_mtime_ns
        if changed_ns != self._seen_ns:
            names = os.listdir(self._directory)
            self._peers = [name for name in names if name not in (_LOCK, self.name)]
            # Who comes within one tick of the file system's clock would not be seen.
            is_settled = time.time_ns() - changed_ns > 50_000_000
            self._seen_ns = changed_ns if is_settled else -1
        return self._read_all(now) if self._peers else ALONE

    def _read_all(self, now: float) -> Others:
        live, orphaned, wants = [], [], []
        for name in self._peers:
            entry, is_live = self._read(name)
            if entry is None:
                continue
            if not is_live:
                orphaned.append(self._left_by(name, entry))
                continue
            live.append(entry.held)
            if entry.want is not None and now - entry.at < SILENT_S:
                wants.append(entry.want)
        return Others(len(live), total_of(live), total_of(orphaned), tuple(wants))

    def _read(self, name: str) -> tuple[Entry | None, bool]:
        """What a run says, and whether it lives; no entry for one that says nothing or is gone."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None, False
        try:
            is_live = False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                is_live = True
            entry = _entry(os.pread(descriptor, _ROOM_BYTES, 0))
            if entry is None and not is_live and not name.startswith("."):
                self._forget(name)
            return entry, is_live
        finally:
            os.close(descriptor)

    def _left_by(self, name: str, entry: Entry) -> Units:
        """What goes on running of a dead run; it is forgotten when nothing does."""
        left = self._orphans(entry.local_dir, entry.pid) if any(entry.held.values()) else {}
        if not any(left.values()):
            self._forget(name)
        return left

    def _forget(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"


def _entry(text: bytes) -> Entry | None:
    line = text.partition(b"\n")[0]
    try:
        pid, local_dir, held, want, at = json.loads(line)
        return Entry(int(pid), str(local_dir), _units(held), _want(want), float(at))
    except (ValueError, TypeError, AttributeError):
        return None


def _want(row: Any) -> Want | None:
    if row is None:
        return None
    units, since, share, name = row
    return Want(_units(units), float(since), float(share), str(name))


def _units(row: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(amount) for name, amount in row.items()}


def _boot_id() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        # Not Linux: what is left of before a restart is not locked, and counts for nothing.
        return "machine"
