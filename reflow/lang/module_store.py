"""Checked modules on disk, so that a module that was seen before is neither parsed nor checked again.

A record belongs to a text, the name that it is shown under, the directory that its ``make`` starts from, and
the program that made the record. It tells what else happened while the module was checked: remarks, warnings,
and the modules that it opened, which must be the same again. Records may be deleted at any time; a damaged
one is as good as none.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import stat
import sys
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any, Protocol

from reflow.core.digest import Digest
from reflow.lang.module import Module
from reflow.lang.source import Pos

_MAGIC = b"reflow module\n"
_DIGEST_BYTES = 32
_MAX_RECORDS = 2000
_MAX_BYTES = 256 << 20
_PACKAGE = os.path.dirname(os.path.abspath(__file__))

Event = tuple[str, ...]
"""``("note", LINE)``, ``("warn", PLACE, TEXT)`` or ``("open", NAME, DIRECTORY, IDENTITY)``."""


class ModuleStore:
    """Records in one directory, which is ours alone: nobody else may put a record there."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def load(self, key: Digest) -> tuple[list[Event], bytes] | None:
        """The events and the tree of a record; None when there is none that can be trusted."""
        if not self._is_private():
            return None
        path = self._path(key)
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                return None
            with open(path, "rb") as stream:
                content = stream.read()
            os.utime(path)
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        payload = content[start:]
        if content[:start] != _MAGIC + sha256(payload).digest():
            return None
        events, tree = marshal.loads(payload)
        return events, tree

    def save(self, key: Digest, events: Sequence[Event], tree: bytes) -> None:
        """Keep a record. What the disk refuses is not kept."""
        payload = marshal.dumps((list(events), tree))
        scratch = f"{self._path(key)}.{os.getpid()}"
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self.directory), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
            if not self._is_private():
                return
            try:
                with open(scratch, "wb") as stream:
                    stream.write(_MAGIC + sha256(payload).digest() + payload)
                os.replace(scratch, self._path(key))
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(scratch)
            self._prune()

    def _path(self, key: Digest) -> str:
        return os.path.join(self.directory, key.hex())

    def _is_private(self) -> bool:
        """Whether nobody else could have written records (or a link in their place)."""
        try:
            status = os.lstat(self.directory)
        except OSError:
            return False
        is_own_directory = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        return is_own_directory and not stat.S_IMODE(status.st_mode) & 0o077

    def _prune(self) -> None:
        """Delete what was not used for longest, down to half, when there is too much."""
        entries = []
        with os.scandir(self.directory) as found:
            for each in found:
                status = each.stat()
                entries.append((status.st_mtime_ns, status.st_size, each.path))
        count, size_bytes = len(entries), sum([size for _, size, _ in entries])
        if count <= _MAX_RECORDS and size_bytes <= _MAX_BYTES:
            return
        for _, size, path in sorted(entries):
            if count <= _MAX_RECORDS // 2 and size_bytes <= _MAX_BYTES // 2:
                return
            os.unlink(path)
            count, size_bytes = count - 1, size_bytes - size


def default_store() -> ModuleStore:
    """The store of this user, below ``REFLOW_HOME``, else ``XDG_CACHE_HOME``, else ``~/.reflow``."""
    named = os.environ.get("REFLOW_HOME")
    cache_home = os.environ.get("XDG_CACHE_HOME")
    if named:
        parent = os.path.join(os.path.abspath(named), "cache")
    elif cache_home and os.path.isabs(cache_home):
        parent = os.path.join(cache_home, "reflow")
    else:
        parent = os.path.join(os.path.expanduser("~"), ".reflow", "cache")
    return ModuleStore(os.path.join(parent, "modules"))


def module_key(path: str, source: bytes, directory: str) -> Digest:
    """What a record is found by."""
    hasher = sha256(_program_version())
    for part in (path, directory):
        data = part.encode("utf-8", "surrogateescape")
        hasher.update(len(data).to_bytes(8, "little") + data)
    hasher.update(source)
    return Digest(hasher.digest())


@cache
def _program_version() -> bytes:
    """Names this program and the interpreter it runs in: a record of another one is not read."""
    parts = [sys.version]
    for directory in (_PACKAGE, os.path.join(_PACKAGE, "builtins"), os.path.join(_PACKAGE, "stdlib")):
        with os.scandir(directory) as found:
            for entry in sorted(found, key=lambda entry: entry.name):
                if entry.name.endswith((".py", ".rf", ".bin", ".lark")):
                    status = entry.stat()
                    parts.append(f"{entry.name} {status.st_size} {status.st_mtime_ns}")
    return sha256("\n".join(parts).encode()).digest()


class _Session(Protocol):
    """A session, as far as it is needed here."""

    def open(self, path: str, importer_dir: str = "") -> Module:
        """Open a module."""
        ...

    def note(self, text: str) -> None:
        """Tell a remark."""
        ...

    def warn(self, pos: Pos | str, text: str) -> None:
        """Tell a warning."""
        ...

    def identity(self, module: Module) -> Digest:
        """Names a module with all that it makes."""
        ...


class Recorder:
    """Stands between a session and the parser and checker of one module, and takes down what happens.

    Either by `replay` of what happened once, or as the opener of a checker.
    """

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._already_told = 0
        self._failures: dict[tuple[str, str], Exception] = {}
        self.events: list[Event] = []
        self.modules: list[Module] = []

    def note(self, text: str) -> None:
        """Tell a remark of the scanner."""
        self.events.append(("note", text))
        if self._is_new():
            self._session.note(text)

    def warn(self, pos: Any, text: str) -> None:
        """Tell a warning of the checker."""
        self.events.append(("warn", str(pos), text))
        if self._is_new():
            self._session.warn(pos, text)

    def open(self, path: str, importer_dir: str) -> Module:
        """Open a module that this one makes."""
        failure = self._failures.get((path, importer_dir))
        if failure is not None:
            raise failure
        module = self._session.open(path, importer_dir)
        self.events.append(("open", path, importer_dir, self._session.identity(module).hex()))
        self.modules.append(module)
        return module

    def replay(self, events: Sequence[Event]) -> bool:
        """Let everything happen as it did; False as soon as a module is not the one that it was."""
        for event in events:
            match event:
                case ("note", text):
                    self.note(text)
                case ("warn", place, text):
                    self.warn(place, text)
                case ("open", path, directory, identity):
                    if not self._opens_as_before(path, directory, identity):
                        return False
        return True

    def _opens_as_before(self, path: str, directory: str, identity: str) -> bool:
        try:
            module = self.open(path, directory)
        except Exception as err:  # noqa: BLE001  (whatever it is, the checker meets it again and tells)
            self._failures[path, directory] = err
            return False
        return self._session.identity(module).hex() == identity

    def start_over(self) -> None:
        """Forget what happened, to take it down anew; what was told is not told again."""
        self._already_told = sum(1 for event in self.events if event[0] != "open")
        self.events.clear()
        self.modules.clear()

    def _is_new(self) -> bool:
        if not self._already_told:
            return True
        self._already_told -= 1
        return False

    def identity(self, key: Digest) -> Digest:
        """Names the module of ``key`` together with the modules that it makes."""
        hasher = sha256(key)
        for event in self.events:
            if event[0] == "open":
                hasher.update(event[3].encode())
        return Digest(hasher.digest())
