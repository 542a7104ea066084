"""``file`` and ``dir``, which every program has.

Source: syntax/stdlib.go, Stdlib.
"""

from __future__ import annotations

from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.flow.node import Coerce, Flow, Intern, K
from reflow.lang.builtins.func import Native, SystemFunction
from reflow.lang.builtins.local import file_data, is_local_name, tree_data
from reflow.lang.coerce import fileset_to_dir
from reflow.lang.diagnostic import EvalError
from reflow.lang.force import to_flow
from reflow.lang.gourl import URL, parse_place
from reflow.lang.types import DIR as DIR_TYPE
from reflow.lang.types import FILE as FILE_TYPE
from reflow.lang.types import STRING, Field, FuncType, Type, flow_of, func_of
from reflow.lang.value import CallSite, Dir, Value

_REMOTE_FILE = Digest.of(b"file.fs$file")
_LOCAL_FILE = Digest.of(b"file.fs$file1")
_LOCAL_DIR = Digest.of(b"file.fs$file2")
_REMOTE_DIR = Digest.of(b"$dir.fs2dir")


def file(args: list[Value], site: CallSite) -> Flow:
    """The file at a URL, or the local file of that name."""
    raw = args[0].rstrip(b"/")
    url = _url(raw)
    if url.scheme:
        source: Flow = Intern(url.text, ident=site.ident, pos=site.pos)
        return Coerce(_lone_file(url.text), source, _REMOTE_FILE)
    data = file_data(raw.decode("utf-8", "surrogateescape"), site)
    return Coerce(_lone_file(url.text), data, _LOCAL_FILE)


def directory(args: list[Value], site: CallSite) -> Flow:
    """The directory at a URL, or the local one of that name, with all below it."""
    raw = args[0].rstrip(b"/") + b"/"
    url = _url(raw)
    if url.scheme:
        return Coerce(fileset_to_dir, Intern(url.text, ident=site.ident, pos=site.pos), _REMOTE_DIR)
    paths, data = tree_data(raw.decode("utf-8", "surrogateescape"), site)

    def collect(values: list[Any]) -> Flow:
        files = {path: value.file() for path, value in zip(paths, values, strict=True)}
        return to_flow(Dir(files), DIR_TYPE)

    return K(collect, data, _LOCAL_DIR, ident=site.ident, pos=site.pos)


def _url(raw: bytes) -> URL:
    """The URL; a local name that is none, or looks like another scheme, stands for itself."""
    try:
        url = parse_place(raw)
    except EvalError:
        if not is_local_name(raw):
            raise
        return URL("", raw.decode("utf-8", "surrogateescape"))
    if url.scheme and is_local_name(raw):
        return URL("", raw.decode("utf-8", "surrogateescape"))
    return url


def _lone_file(shown: str) -> Any:
    def take(value: Fileset) -> File:
        try:
            return value.file()
        except ReflowError as err:
            raise ReflowError(Kind.NOT_EXIST, "file", shown, cause=err) from err

    return take


def _make(name: str, result: Type, native: Native) -> SystemFunction:
    type = flow_of(func_of([Field("url", STRING)], result))
    assert isinstance(type, FuncType)
    return SystemFunction("", name, type, native)


FILE = _make("file", FILE_TYPE, Native(file, is_flow=True))
DIR = _make("dir", DIR_TYPE, Native(directory, is_flow=True))
