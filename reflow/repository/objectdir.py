"""The directory behind a file repository: names, states and housekeeping of its objects. All of it blocks.

``ROOT/ab/cdef…`` holds the object whose digest is ``abcdef…``; ``ROOT/tmp`` what is being written;
``ROOT/damaged`` what turned out to be altered.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from reflow.core.digest import Digest, DigestPrefix
from reflow.disk.filesystem import disk_space, translate_error
from reflow.repository.objectfile import OBJECT_MODE, OBJECT_TIME_NS, ObjectWriter, hash_file

EMPTY_DIGEST = Digest.of(b"")

_FRESH_S = 3600.0
"""How old a time of use may be before it is set anew; much less than what stays when garbage is collected."""


class Usage(NamedTuple):
    """How many objects there are, and their bytes."""

    objects: int
    size: int


class StoredObject(NamedTuple):
    """An object, and when it was stored or last linked to (Unix seconds)."""

    digest: Digest
    size: int
    changed_s: float


class ObjectDirectory:
    """Objects below ``root``, which is made when the first one is stored."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._writer_name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._numbers = itertools.count()
        self._device: int | None = None
        self._verified: set[Digest] = set()
        self.set_aside_count = 0

    def path(self, digest: Digest) -> str:
        """Where the object is, or would be."""
        text = digest.hex()
        return f"{self.root}/{text[:2]}/{text[2:]}"

    def device(self) -> int:
        """Number of the device; makes the root. Raises OSError."""
        if self._device is None:
            os.makedirs(self.root, exist_ok=True)
            self._device = os.stat(self.root).st_dev
        return self._device

    def writer(self) -> ObjectWriter:
        """A new temporary file."""
        return ObjectWriter(f"{self.root}/tmp/put-{self._writer_name}-{next(self._numbers)}")

    def is_intact(self, digest: Digest, size: int) -> bool:
        """Tell whether an object is here, of this size, and not written to.

        Asked before it is stored again: it counts as being of use now (`reflow.repository.maintenance`).
        """
        try:
            status = os.stat(self.path(digest))
        except OSError:
            return False
        if status.st_size != size:
            return False
        if status.st_mtime_ns != OBJECT_TIME_NS and digest not in self._verified:
            return False
        return time.time() - status.st_ctime < _FRESH_S or self._freshen(digest)

    def _freshen(self, digest: Digest) -> bool:
        """Set an object's time of change of state; False when it has gone."""
        try:
            os.chmod(self.path(digest), OBJECT_MODE)
        except FileNotFoundError:
            return False
        except OSError:
            pass  # another user's object: its owner decides how long it stays
        return True

    def sort_out(
        self, digests: Iterable[Digest], sizes: Mapping[Digest, int]
    ) -> tuple[list[Digest], list[Digest]]:
        """Of ``digests``, those that are not here (or of another size), and those that must be hashed."""
        absent, doubtful = [], []
        for digest in digests:
            try:
                status = os.stat(self.path(digest))
            except FileNotFoundError:
                absent.append(digest)
                continue
            except OSError as err:
                raise translate_error(err, "repository.missing", self.path(digest)) from err
            size = status.st_size
            if sizes.get(digest, size) != size or (not size and digest != EMPTY_DIGEST):
                absent.append(digest)
            elif status.st_mtime_ns != OBJECT_TIME_NS and digest not in self._verified:
                doubtful.append(digest)
        return absent, doubtful

    def verify(self, digest: Digest) -> bool:
        """Hash an object. Repair mode and time of a good one, set a bad one aside; tell which it was."""
        path = self.path(digest)
        try:
            found = hash_file(path)
        except FileNotFoundError:
            return False
        except OSError as err:
            raise translate_error(err, "repository.verify", path) from err
        if found.digest != digest:
            self.set_aside(digest)
            return False
        self._verified.add(digest)
        with contextlib.suppress(OSError):  # another user's object is good all the same
            os.chmod(path, OBJECT_MODE)
            os.utime(path, ns=(OBJECT_TIME_NS, OBJECT_TIME_NS))
        return True

    def set_aside(self, digest: Digest) -> str:
        """Move an altered object out of the way; return where to."""
        source = self.path(digest)
        target = f"{self.root}/damaged/{digest.hex()}-{self._writer_name}-{next(self._numbers)}"
        self._verified.discard(digest)
        self.set_aside_count += 1
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # somebody else was faster
                os.rename(source, target)
        except OSError as err:
            raise translate_error(err, "repository.set_aside", source) from err
        return target

    def move_in(self, source: str, digest: Digest) -> None:
        """Rename a finished file to its name, replacing what is there. Raises ReflowError."""
        target = self.path(digest)
        try:
            try:
                os.rename(source, target)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                _rename_once(source, target)
        except OSError as err:
            raise translate_error(err, "repository.put", target) from err
        self._verified.discard(digest)

    def link_in(self, source: str, digest: Digest) -> bool:
        """Give a finished file an object's name as well; False when that cannot be, or it is there."""
        target = self.path(digest)
        try:
            try:
                os.link(source, target)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.link(source, target)
        except OSError:
            return False
        self._verified.discard(digest)
        return True

    def find(self, prefix: DigestPrefix) -> list[Digest]:
        """Objects that an abbreviated digest may stand for."""
        directory = str(prefix)[:2]
        found = [digest for name in self._names(directory) if (digest := _digest_of(directory + name))]
        return [digest for digest in found if prefix.expands_to(digest)]

    # Housekeeping.

    def objects(self) -> Iterator[StoredObject]:
        """Every object, by digest."""
        for directory in self._names(""):
            if len(directory) == 2:
                yield from self.objects_in(directory)

    def objects_in(self, directory: str) -> Iterator[StoredObject]:
        """The objects whose digests begin with these two hexadecimal digits."""
        for name in self._names(directory):
            digest = _digest_of(directory + name)
            if digest is None:
                continue
            try:
                status = os.stat(f"{self.root}/{directory}/{name}")
            except FileNotFoundError:
                continue
            yield StoredObject(digest, status.st_size, status.st_ctime)

    def du(self) -> Usage:
        """Count objects and their bytes."""
        count = size = 0
        for each in self.objects():
            count += 1
            size += each.size
        return Usage(count, size)

    def space(self) -> tuple[int, int]:
        """Bytes free and bytes in all on the disk of the root."""
        try:
            return disk_space(self.root)
        except OSError as err:
            raise translate_error(err, "repository.space", self.root) from err

    def remove(self, digest: Digest) -> bool:
        """Delete an object; False when there is none. The caller knows that nobody needs it."""
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            return False
        except OSError as err:
            raise translate_error(err, "repository.remove", self.path(digest)) from err
        return True

    def sweep(self, before_s: float) -> int:
        """Delete what killed processes left half-written before a time (Unix seconds); how many files."""
        count = 0
        for name in self._names("tmp"):
            path = f"{self.root}/tmp/{name}"
            with contextlib.suppress(OSError):  # gone already, or another user's
                if os.stat(path).st_ctime < before_s:
                    os.unlink(path)
                    count += 1
        return count

    def _names(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(f"{self.root}/{directory}"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as err:
            raise translate_error(err, "repository.list", f"{self.root}/{directory}") from err


def _rename_once(source: str, target: str) -> None:
    """Rename; an NFS server that answers a repeated request with "not found" has done it the first time."""
    try:
        os.rename(source, target)
    except FileNotFoundError:
        if not os.path.exists(target):
            raise


def _digest_of(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except ValueError:
        return None
