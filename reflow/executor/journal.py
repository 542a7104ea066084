"""Results of execs on their way to the cache, and results that other runs of this machine need just now.

Each executor appends to a file of its own, ``<localdir>/results/<pid>-<random>``, one line for each exec that
has succeeded, and has it locked as long as it lives. So whoever finds an exec's directory gone can tell
whether another run has just done the work (nothing is done twice), and the next run finds what a killed one
had done but not yet cached. A file goes when all of its results are in the cache, or the next executor ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Journal:
    """The results of one executor, below a local directory."""

    def __init__(self, localdir: str) -> None:
        self.directory = f"{localdir}/results"
        self.path = ""
        self._fd = -1

    def open(self) -> None:
        """Begin; from now on others can tell that this executor lives. Raises OSError."""
        os.makedirs(self.directory, exist_ok=True)
        while self._fd < 0:
            self.path = f"{self.directory}/{os.getpid()}-{os.urandom(4).hex()}"
            self._fd = os.open(self.path, _FLAGS, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            if not os.path.exists(self.path):  # somebody took it for a dead one's
                self.close()

    def append(self, work: str, value: Fileset) -> None:
        """Note a result. That it cannot be noted is no harm as long as we live."""
        line = f"{work} {json.dumps(_packed(value))}\n"
        with contextlib.suppress(OSError):
            os.write(self._fd, line.encode("ascii"))

    def close(self) -> None:
        """Let go of it; its results stay until `forget`, or the end of another executor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def forget(self) -> None:
        """Delete it: its results are in the cache."""
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


class Peers:
    """The journals of other executors, live and dead."""

    def __init__(self, own: Journal) -> None:
        self._own = own
        self._seen_ns = 0
        self._offsets: dict[str, int] = {}
        self._known: dict[str, str] = {}

    def find(self, work: str) -> Fileset | None:
        """The result of some work, if another executor has noted one."""
        self._refresh()
        text = self._known.get(work) if self._known else None
        if text is None:
            return None
        try:
            return _unpacked(json.loads(text))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None

    def are_gone(self) -> bool:
        """Tell whether no other executor lives here."""
        return not any(_is_locked(path) for path in self._paths())

    def has_any(self) -> bool:
        """Tell whether there is a journal of any other executor, live or dead."""
        return any(True for _ in self._paths())

    def is_alive(self, owner: int) -> bool:
        """Tell whether an executor of the process ``owner`` lives here."""
        if owner == os.getpid():
            return True
        return any(
            os.path.basename(path).startswith(f"{owner}-") and _is_locked(path) for path in self._paths()
        )

    def remove_dead(self) -> None:
        """Delete the journals of executors that are no more."""
        for path in self._paths():
            _if_dead(path, os.unlink)

    def _paths(self) -> Iterator[str]:
        with contextlib.suppress(OSError), os.scandir(self._own.directory) as entries:
            for entry in entries:
                if entry.path != self._own.path:
                    yield entry.path

    def _refresh(self) -> None:
        with contextlib.suppress(OSError):
            changed_ns = os.stat(self._own.directory).st_mtime_ns
            if changed_ns != self._seen_ns:
                self._seen_ns = changed_ns
                self._offsets = {path: self._offsets.get(path, 0) for path in self._paths()}
        for path in self._offsets:
            with contextlib.suppress(OSError):
                if os.stat(path).st_size > self._offsets[path]:
                    self._read(path)

    def _read(self, path: str) -> None:
        with open(path, "rb") as file:
            file.seek(self._offsets[path])
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written
                self._offsets[path] += len(line)
                work, _, text = line.decode("ascii", "replace").partition(" ")
                self._known[work] = text


def _packed(value: Fileset) -> list[Any]:
    """Files and members. (The form that is stored does not tell an empty list from an empty directory.)"""
    files = {path: [file.digest.hex(), file.size] for path, file in value.files.items()}
    return [files, None if value.members is None else [_packed(member) for member in value.members]]


def _unpacked(row: Any) -> Fileset:
    files, members = row
    return Fileset(
        {path: File(Digest.parse(text), int(size)) for path, (text, size) in files.items()},
        None if members is None else [_unpacked(member) for member in members],
    )


def are_dead(localdir: str) -> bool:
    """Tell whether executors were killed in a local directory where none lives now."""
    peers = Peers(Journal(localdir))
    return peers.has_any() and peers.are_gone()


def is_stored(value: Fileset, path_of: Callable[[Digest], str]) -> bool:
    """Tell whether all files of a result are where they should be."""
    for file in value.all_files():
        try:
            if file.id is None or os.stat(path_of(file.id)).st_size != file.size:
                return False
        except OSError:
            return False
    return True


def _is_locked(path: str) -> bool:
    found = [path]
    _if_dead(path, lambda path: found.clear())
    return bool(found) and os.path.exists(path)


def _if_dead(path: str, do: Callable[[str], None]) -> None:
    """Do something with a journal while nobody else can have it."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            do(path)
        finally:
            os.close(fd)
