"""Copies of inputs: shared blocks where the file system can, bytes where it cannot."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from reflow.disk.filesystem import copy_contents
from reflow.repository.objectfile import OBJECT_TIME_NS

_FICLONE = 0x40049409
_MODE = 0o644


def reflink(source: str, target: str) -> bool:
    """Make ``target`` a file that shares the blocks of ``source``; tell whether the file system can."""
    if sys.platform != "linux":
        return False
    import fcntl

    with open(source, "rb") as reader, open(target, "xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            os.unlink(target)
            return False
        os.fchmod(writer.fileno(), _MODE)
        _set_time(writer.fileno())
    return True


def copy_file(
    source: str, target: str, observe: Callable[[int], None] | None = None, mode: int = _MODE
) -> None:
    """Make ``target``, which is not there yet, a copy of ``source``. Raises OSError.

    ``observe`` is told the bytes of each piece; what it raises ends the copy.
    """
    with open(source, "rb") as reader, open(target, "xb") as writer:
        size_bytes = os.fstat(reader.fileno()).st_size
        copy_contents(reader.fileno(), writer.fileno(), size_bytes, observe)
        os.fchmod(writer.fileno(), mode)
        _set_time(writer.fileno())


def _set_time(fd: int) -> None:
    """Give a copy the time that objects have: tools such as gzip put it into what they write."""
    os.utime(fd, ns=(OBJECT_TIME_NS, OBJECT_TIME_NS))
