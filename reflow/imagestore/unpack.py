"""Layers laid over each other in a directory, by an ordinary user, whatever their tars say.

Nothing outside the directory is read or written: names are taken apart, each component is opened from its
parent's descriptor, and links are made but never followed. Where a layer has something below a link or a file
of a lower layer, a directory takes its place, as overlays do it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.stream import CHUNK_BYTES, DigestReader, Reader, TarStream, decompressed

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE_BITS = 0o1777  # no set-user-id: owners are dropped
_OWNER_BITS = 0o700
_MAX_DEPTH = 256
_MAX_PATH = 4096
_MAX_TIME_S = 1 << 33
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_RESERVED = ".wh..wh."
_NO_LINKS = frozenset({errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


class RootWriter:
    """The root file system that is being made in ``path``, an empty directory of our own.

    ``check`` is called now and then; what it raises ends the work.
    """

    def __init__(self, path: str, check: Callable[[], None]) -> None:
        self.size_bytes = 0
        self.files = 0
        self.left_out: list[str] = []
        """Paths of devices, which an ordinary user cannot make."""
        self._check = check
        self._fds = [os.open(path, _DIRECTORY)]
        self._names: list[str] = []
        self._times: dict[str, int] = {}
        self._ours: set[str] = set()
        self._noted = ""

    def close(self) -> None:
        """Let go of the directory."""
        while self._fds:
            os.close(self._fds.pop())

    def apply(self, layer: Reader, diff_id: str) -> None:
        """Lay a layer (a tar, maybe compressed) over what is there.

        Raises ImageError INVALID for a tar that is malformed or leads out of the root, INTEGRITY where it is
        damaged or not the one named by ``diff_id``; and OSError.
        """
        self._ours, self._noted = set(), ""
        content = DigestReader(decompressed(layer))
        stream = TarStream(content)
        try:
            for member in _members(stream):
                self._check()
                self._place(member, stream)
        except (tarfile.TarError, UnicodeError, OverflowError) as err:
            raise ImageError(Kind.INTEGRITY, f"damaged: {err}") from err
        content.drain()
        if content.digest != diff_id:
            raise ImageError(Kind.INTEGRITY, f"unpacks to {content.digest}, want {diff_id}")

    def finish(self) -> None:
        """Set the times of directories, once all layers are there."""
        for path in sorted(self._times):
            *parents, name = path.split("/")
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                fd = self._enter(parents, is_made=False)
                os.utime(name, ns=(self._times[path],) * 2, dir_fd=fd, follow_symlinks=False)

    # One entry.

    def _place(self, member: tarfile.TarInfo, stream: TarStream) -> None:
        parts = _parts(member.name)
        if not parts:
            self._place_root(member)
            return
        *parents, name = parts
        fd = self._enter(parents)
        self._note(parents)
        if name.startswith(_WHITEOUT):
            self._white_out(fd, parents, name)
            return
        path = "/".join(parts)
        self._ours.add(path)
        if member.isdir():
            self._place_directory(fd, name, path, member)
        elif member.isreg():
            self._place_file(fd, name, member, stream)
        elif member.issym():
            self._place_link(fd, name, member)
        elif member.islnk():
            self._place_hard_link(fd, name, path, member)
        elif member.isfifo():
            self._place_fifo(fd, name, member)
        else:
            _remove(fd, name)
            self.left_out.append(path)

    def _place_root(self, member: tarfile.TarInfo) -> None:
        if not member.isdir():
            raise ImageError(Kind.INVALID, f"malformed: the root is no directory ({member.name!r})")
        os.fchmod(self._fds[0], _directory_mode(member))

    def _place_directory(self, fd: int, name: str, path: str, member: tarfile.TarInfo) -> None:
        directory = _open_or_make(fd, name)
        try:
            os.fchmod(directory, _directory_mode(member))
        finally:
            os.close(directory)
        self._times[path] = _time_ns(member)

    def _place_file(self, fd: int, name: str, member: tarfile.TarInfo, stream: TarStream) -> None:
        stream.seek(member.offset_data)
        file = _make_file(fd, name)
        try:
            for offset, size in _pieces(member):
                os.lseek(file, offset, os.SEEK_SET)
                self._copy(stream, file, size, member.name)
                self.size_bytes += size
            os.ftruncate(file, member.size)
            os.fchmod(file, member.mode & _MODE_BITS)
            os.utime(file, ns=(_time_ns(member),) * 2)
        finally:
            os.close(file)
        self.files += 1

    def _copy(self, stream: TarStream, file: int, size: int, name: str) -> None:
        while size > 0:
            chunk = stream.some(min(size, CHUNK_BYTES))
            if not chunk:
                raise ImageError(Kind.INTEGRITY, f"damaged: it ends inside {name!r}")
            size -= len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(file, view) :]
            self._check()

    def _place_link(self, fd: int, name: str, member: tarfile.TarInfo) -> None:
        if not member.linkname or len(os.fsencode(member.linkname)) >= _MAX_PATH:
            raise ImageError(Kind.INVALID, f"malformed: the link {member.name!r} has no target that can be")
        _remove(fd, name)
        os.symlink(member.linkname, name, dir_fd=fd)
        os.utime(name, ns=(_time_ns(member),) * 2, dir_fd=fd, follow_symlinks=False)

    def _place_hard_link(self, fd: int, name: str, path: str, member: tarfile.TarInfo) -> None:
        parts = _parts(member.linkname)
        if "/".join(parts) == path:
            raise ImageError(Kind.INVALID, f"malformed: {member.name!r} is a hard link to itself")
        try:
            target_fd = self._open_directory(parts[:-1])
        except (FileNotFoundError, NotADirectoryError):
            raise _no_target(member) from None
        try:
            if not parts:
                raise _no_target(member)
            _remove(fd, name)
            _link_or_copy(target_fd, parts[-1], fd, name)
        except (FileNotFoundError, IsADirectoryError):
            raise _no_target(member) from None
        finally:
            os.close(target_fd)

    def _place_fifo(self, fd: int, name: str, member: tarfile.TarInfo) -> None:
        _remove(fd, name)
        os.mkfifo(name, member.mode & _MODE_BITS, dir_fd=fd)

    # What a layer takes away from those below it.

    def _white_out(self, fd: int, parents: list[str], name: str) -> None:
        if name == _OPAQUE:
            self._clear_lower(fd, parents)
            return
        if name.startswith(_RESERVED):
            return  # bookkeeping of aufs
        target = name.removeprefix(_WHITEOUT)
        if target in ("", ".", ".."):
            raise ImageError(Kind.INVALID, f"malformed: a whiteout of {'/'.join([*parents, target])!r}")
        self._remove_lower(fd, parents, target)

    def _remove_lower(self, fd: int, parents: list[str], name: str) -> None:
        path = [*parents, name]
        if "/".join(path) not in self._ours:
            _remove(fd, name)
            return
        try:
            directory = os.open(name, _DIRECTORY, dir_fd=fd)
        except OSError:
            return  # this layer's own file
        try:
            self._clear_lower(directory, path)
        finally:
            os.close(directory)

    def _clear_lower(self, fd: int, path: list[str]) -> None:
        for name in os.listdir(fd):
            self._remove_lower(fd, path, name)

    def _note(self, parents: list[str]) -> None:
        """Remember that directories are in this layer, though it may not list them."""
        path = "/".join(parents)
        if path != self._noted:
            self._noted = path
            self._ours.update(["/".join(parents[:depth]) for depth in range(1, len(parents) + 1)])

    # Directories.

    def _enter(self, parents: list[str], *, is_made: bool = True) -> int:
        """The descriptor of a directory; what is missing, or in the way, is replaced if ``is_made``."""
        common = 0
        for have, want in zip(self._names, parents, strict=False):
            if have != want:
                break
            common += 1
        while len(self._names) > common:
            self._names.pop()
            os.close(self._fds.pop())
        for name in parents[common:]:
            opened = _open_or_make(self._fds[-1], name) if is_made else _open_only(self._fds[-1], name)
            self._fds.append(opened)
            self._names.append(name)
        return self._fds[-1]

    def _open_directory(self, parts: list[str]) -> int:
        """A new descriptor of a directory that exists. Raises FileNotFoundError, NotADirectoryError."""
        fd = os.dup(self._fds[0])
        for name in parts:
            try:
                inner = _open_only(fd, name)
            finally:
                os.close(fd)
            fd = inner
        return fd


def _members(stream: TarStream) -> Iterator[tarfile.TarInfo]:
    """The entries of a tar; nothing is kept of those that have passed. A stream of no bytes has none."""
    if stream.is_at_end:
        return
    # tarfile wants a file, and asks of it what TarStream has.
    archive = tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
    members: list[tarfile.TarInfo] = archive.__dict__["members"]  # typeshed has a method only that reads all
    while (member := archive.next()) is not None:
        members.clear()
        yield member
    if not stream.was_block_empty:
        raise ImageError(Kind.INTEGRITY, f"damaged: no header of a tar at byte {stream.tell()}")


def _parts(name: str) -> list[str]:
    """The components of a name below the root. Raises ImageError INVALID when it leads out of it."""
    parts = [each for each in name.split("/") if each not in ("", ".")]
    if ".." in parts:
        raise ImageError(Kind.INVALID, f"malformed: the path {name!r} leads out of the image")
    if "\0" in name or len(parts) > _MAX_DEPTH or len(os.fsencode(name)) >= _MAX_PATH:
        raise ImageError(Kind.INVALID, f"malformed: {name[:60]!r}… is no path (too long, too deep, or a NUL)")
    return parts


def _pieces(member: tarfile.TarInfo) -> Iterable[tuple[int, int]]:
    """Offset and size of what a file has; a sparse one has holes between its pieces."""
    pieces: Any = member.sparse  # typeshed has it as bytes
    return [(0, member.size)] if pieces is None else pieces


def _open_only(fd: int, name: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=fd)
    except OSError as err:
        if err.errno == errno.ELOOP:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from err
        raise


def _open_or_make(fd: int, name: str) -> int:
    try:
        return _open_only(fd, name)
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        os.unlink(name, dir_fd=fd)
    os.mkdir(name, 0o755, dir_fd=fd)
    directory = _open_only(fd, name)
    os.fchmod(directory, 0o755)
    return directory


def _make_file(fd: int, name: str) -> int:
    try:
        return os.open(name, _NEW_FILE, 0o600, dir_fd=fd)
    except FileExistsError:
        _remove(fd, name)
        return os.open(name, _NEW_FILE, 0o600, dir_fd=fd)


def _remove(fd: int, name: str) -> None:
    """Remove whatever has a name in a directory, if anything does."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(name, dir_fd=fd)


def _link_or_copy(source_fd: int, source: str, fd: int, name: str) -> None:
    """Make a hard link, or a copy where there are no (more) links. Raises IsADirectoryError."""
    try:
        os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)
        return
    except OSError as err:
        if err.errno not in _NO_LINKS:
            raise
    info = os.stat(source, dir_fd=source_fd, follow_symlinks=False)
    reader = os.open(source, _OLD_FILE, dir_fd=source_fd)
    with open(reader, "rb") as old, open(_make_file(fd, name), "wb") as new:
        shutil.copyfileobj(old, new, CHUNK_BYTES)
        os.fchmod(new.fileno(), info.st_mode & _MODE_BITS)
        new.flush()
        os.utime(new.fileno(), ns=(info.st_mtime_ns,) * 2)


def _no_target(member: tarfile.TarInfo) -> ImageError:
    detail = f"{member.name!r} is a hard link to {member.linkname!r}, which is no file of the image"
    return ImageError(Kind.INVALID, f"malformed: {detail}")


def _directory_mode(member: tarfile.TarInfo) -> int:
    return member.mode & _MODE_BITS | _OWNER_BITS


def _time_ns(member: tarfile.TarInfo) -> int:
    return int(min(max(member.mtime, 0), _MAX_TIME_S) * 1_000_000_000)
