"""Placing results where the user wants them: ``run -out PATH``.

Files are copied (sharing blocks where the file system can), never linked: what is placed belongs to the
user, who may change it. A tree is made beside its target and then renamed, so that the target is old or
new, never half of both. Only what an earlier run placed is replaced; if the user changed it since, the
old tree is kept under another name.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.disk.database import Database
from reflow.disk.filesystem import (
    copy_contents,
    exchange,
    existing_ancestor,
    rename_new,
    translate_error,
)
from reflow.repository.localstate import signed

Entry = Digest | bytes | None
"""An object's digest; or the contents of a small file; or None for a directory."""

PlaceProgress = Callable[[int, int], None]
"""Told bytes done and bytes in all; what it raises ends the placing, and leaves the target alone."""

_OP = "out"
_PREFIX = ".reflow-out-"
_STALE_S = 86400
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Placer:
    """Places trees. Everything blocks; call it from a thread.

    ``locate`` returns the path of a file with some contents, and raises ReflowError.
    """

    def __init__(self, state: Database, locate: Callable[[Digest], str]) -> None:
        self._state = state
        self._locate = locate

    def check_target(self, target: str) -> None:
        """Raise when nothing may or can be placed at ``target``; to be called before anything runs.

        INVALID: something is there that no earlier run placed. NOT_ALLOWED: its directory cannot be written.
        """
        path = _resolved(target)
        if os.path.lexists(path):
            if not self._is_ours(path):
                cause = "exists already, and no earlier run placed it; remove it, or name another path"
                raise ReflowError(Kind.INVALID, _OP, target, cause=cause)
            directory = os.path.dirname(path)
        else:
            directory = existing_ancestor(os.path.dirname(path))
        if not os.path.isdir(directory):
            raise ReflowError(Kind.INVALID, _OP, target, cause=f"{directory} is no directory")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise ReflowError(Kind.NOT_ALLOWED, _OP, target, cause=f"{directory} cannot be written")

    def place_tree(
        self, entries: Mapping[str, Entry], target: str, progress: PlaceProgress | None = None
    ) -> str | None:
        """Make ``target`` hold exactly ``entries``; return where a changed old tree was kept, if one was.

        Keys are relative paths; the lone key ``.`` makes the target itself a file (or an empty directory).
        """
        self.check_target(target)
        path = _resolved(target)
        directory = os.path.dirname(path)
        draft = f"{directory}/{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        try:
            os.makedirs(directory, exist_ok=True)
            _sweep(directory)
            self._build(entries, draft, progress)
            return self._swap(draft, path)
        except OSError as err:
            raise translate_error(err, _OP, target) from err
        finally:
            _delete(draft)

    def _build(self, entries: Mapping[str, Entry], draft: str, progress: PlaceProgress | None) -> None:
        sources = {each: self._locate(each) for each in entries.values() if isinstance(each, Digest)}
        sizes = {digest: os.stat(source).st_size for digest, source in sources.items()}
        total = sum(_size(entry, sizes) for entry in entries.values())
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            if progress is not None:
                progress(done, total)

        if list(entries) != ["."]:
            os.mkdir(draft)
        for name, entry in sorted(entries.items()):
            path = _inside(draft, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if entry is None:
                os.makedirs(path, exist_ok=True)
            elif isinstance(entry, Digest):
                _copy(sources[entry], path, count)
            else:
                _write(path, entry)
                count(len(entry))

    def _swap(self, draft: str, path: str) -> str | None:
        """Put the draft in place of whatever an earlier run placed."""
        # Recorded before it is there: if this process is killed in between, the next one knows it.
        self._record(draft, path)
        if not os.path.lexists(path):
            rename_new(draft, path)
            self._forget_others(path)
            return None
        old = self._manifest(path)
        exchange(draft, path)
        self._forget_others(path)
        if old == _manifest(draft):
            return None
        kept = f"{path}.kept-{time.strftime('%Y%m%dT%H%M%S')}-{os.urandom(2).hex()}"
        os.rename(draft, kept)
        return kept

    # The record of what was placed.

    def _is_ours(self, path: str) -> bool:
        return self._manifest(path) is not None

    def _manifest(self, path: str) -> bytes | None:
        """What was recorded about the thing that is now at ``path``; None when it was not placed."""
        if not os.path.exists(self._state.path):
            return None
        query = "SELECT manifest FROM placed WHERE path = ? AND device = ? AND inode = ?"
        key = _key(path, os.lstat(path))
        row: tuple[bytes] | None = self._state.call(
            lambda connection: connection.execute(query, key).fetchone()
        )
        return row[0] if row is not None else None

    def _record(self, draft: str, path: str) -> None:
        row = (*_key(path, os.lstat(draft)), _manifest(draft))
        statement = "INSERT OR REPLACE INTO placed VALUES (?, ?, ?, ?)"
        self._state.call(lambda connection: connection.execute(statement, row))

    def _forget_others(self, path: str) -> None:
        """Forget what was at ``path`` before what is there now."""
        statement = "DELETE FROM placed WHERE path = ? AND NOT (device = ? AND inode = ?)"
        key = _key(path, os.lstat(path))
        self._state.call(lambda connection: connection.execute(statement, key))


def _resolved(target: str) -> str:
    """The target with its directory's links followed, but not its own."""
    path = os.path.abspath(target)
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _key(path: str, status: os.stat_result) -> tuple[bytes, int, int]:
    return os.fsencode(path), signed(status.st_dev), signed(status.st_ino)


def _size(entry: Entry, sizes: Mapping[Digest, int]) -> int:
    if entry is None:
        return 0
    return sizes[entry] if isinstance(entry, Digest) else len(entry)


def _inside(draft: str, name: str) -> str:
    """The path of an entry, which must stay inside."""
    if name == ".":
        return draft
    if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise ReflowError(Kind.INVALID, _OP, cause=f"path {name!r} leads out of the result")
    return f"{draft}/{name}"


def _copy(source: str, target: str, observe: Callable[[int], None]) -> None:
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writer = os.open(target, _WRITE_FLAGS, 0o666)
        try:
            copy_contents(reader, writer, os.fstat(reader).st_size, observe)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _write(path: str, data: bytes) -> None:
    with open(path, "xb", buffering=0) as stream:
        view = memoryview(data)
        while view:
            view = view[stream.write(view) :]


def _manifest(root: str) -> bytes:
    """A digest of a tree's names, sizes and times; directories' own times do not count."""
    digest = sha256()
    for name, status in _walk(root):
        is_file = stat.S_ISREG(status.st_mode)
        facts = (status.st_size, status.st_mtime_ns) if is_file else (0, 0)
        digest.update(b"%s\0%d %d %d\0" % (os.fsencode(name), stat.S_IFMT(status.st_mode), *facts))
    return digest.digest()


def _walk(root: str, name: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Names below ``root`` and their states, in order."""
    stack = [name]
    while stack:
        name = stack.pop()
        path = f"{root}/{name}" if name else root
        status = os.lstat(path)
        yield name, status
        if stat.S_ISDIR(status.st_mode):
            names = sorted(os.listdir(path), reverse=True)
            stack += [f"{name}/{each}" if name else each for each in names]


def _sweep(directory: str) -> None:
    """Delete drafts of runs that were killed; they are old by now."""
    for name in os.listdir(directory):
        if not name.startswith(_PREFIX):
            continue
        path = f"{directory}/{name}"
        try:
            is_stale = os.lstat(path).st_ctime < time.time() - _STALE_S
        except OSError:
            continue
        if is_stale:
            _delete(path)


def _delete(path: str) -> None:
    """Delete a tree or file, if it is there."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        return
