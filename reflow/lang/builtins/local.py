"""Local inputs of a program: what ``file(path)`` and ``dir(path)`` find on this machine.

Nothing is read here: that a file is there and may be read is checked when the program names it, its
contents are hashed before evaluation (see `reflow.flow.data`). A pipe or a device can be read only once, so
that is done at once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from reflow.core.fileset import path_bytes
from reflow.flow.node import Data
from reflow.lang.builtins.func import PlacedError
from reflow.lang.diagnostic import EvalError
from reflow.lang.fserror import describe
from reflow.lang.value import CallSite

_MAX_STREAM_BYTES = 200 << 20


def is_local_name(raw: bytes) -> bool:
    """Whether a string that has no ``//`` after a scheme names something that is there."""
    return b"://" not in raw and b"\0" not in raw and os.path.lexists(raw.rstrip(b"/"))


def file_data(path: str, site: CallSite) -> Data:
    """The data of a local file. Raises an error with the place when it cannot be read."""
    try:
        mode = _check_readable(path)
        content = site.session.local_file(path) if stat.S_ISREG(mode) else _read_stream(path)
    except OSError as err:
        raise PlacedError(f"{site.pos} {site.ident}: {describe(err, path)}", site) from err
    return Data(content, ident=site.ident, pos=site.pos)


def tree_data(root: str, site: CallSite) -> tuple[list[str], list[Data]]:
    """Relative paths of the files below a directory, and their data. ``root`` ends in a slash."""
    if root == "/":
        raise PlacedError("directory / is the root of this machine; name a directory below it", site)
    try:
        found = list(_walk(root))
    except OSError as err:
        raise PlacedError(f"{site.pos} {site.ident}: {describe(err, err.filename)}", site) from err
    if not found:
        raise EvalError(f"empty directory {root}")
    return [relative for relative, _ in found], [file_data(path, site) for _, path in found]


def _check_readable(path: str) -> int:
    """The mode of a file that may be opened for reading. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
    finally:
        os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, os.strerror(21), path)
    return mode


def _read_stream(path: str) -> bytes:
    with open(path, "rb") as stream:
        content = stream.read(_MAX_STREAM_BYTES + 1)
    if len(content) > _MAX_STREAM_BYTES:
        raise EvalError(f"file {path} is no regular file and gives more than {_MAX_STREAM_BYTES >> 20}MB")
    return content


def _walk(root: str) -> Iterator[tuple[str, str]]:
    """(path relative to the root, path) of files; names in byte order, links followed, broken ones left out.

    A root that is no directory is empty. Raises OSError for a directory that cannot be read or holds itself.
    Source: internal/walker.
    """
    base = os.path.normpath(root)
    todo = [("", base, frozenset[tuple[int, int]]())]
    while todo:
        relative, path, above = todo.pop()
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(status.st_mode):
            if relative:
                yield relative, path
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            raise OSError(40, "symbolic link to a directory above it", path)
        prefix = relative + "/" if relative else ""
        inside = above | {identity}
        names = sorted(os.listdir(path), key=path_bytes, reverse=True)
        todo += [(prefix + name, os.path.join(path, name), inside) for name in names]
