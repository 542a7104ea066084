"""``$/dirs``.

Source: syntax/stdlib.go, dirsDecls.
"""

from __future__ import annotations

from reflow.core.fileset import File, path_bytes
from reflow.flow.node import Flow
from reflow.lang.builtins.files import extern
from reflow.lang.builtins.func import Mode, Native
from reflow.lang.coerce import dir_of, fileset_to_dir
from reflow.lang.diagnostic import EvalError
from reflow.lang.digest_value import value_digest
from reflow.lang.gopath import compile_glob
from reflow.lang.regex import compile_regex
from reflow.lang.types import STRING
from reflow.lang.value import CallSite, Dir, MapValue, Value


def groups(args: list[Value], site: CallSite) -> MapValue:
    """Files by what the only group of an expression holds; paths that do not match are left out."""
    directory, pattern = args
    regex = compile_regex(pattern)
    grouped: dict[bytes, dict[str, File]] = {}
    if regex.group_count == 1:
        for path, file in directory.items():
            found = regex.find(path_bytes(path))
            if found is not None:
                grouped.setdefault(found[1], {})[path] = file
    return MapValue([(value_digest(key, STRING), key, Dir(files)) for key, files in grouped.items()])


def make(args: list[Value], site: CallSite) -> Dir:
    """A directory of a map's files."""
    return Dir({_path(path): file for path, file in args[0].items()})


def from_list(args: list[Value], site: CallSite) -> Dir:
    """A directory of (path, file) pairs; the last of a path wins."""
    return Dir({_path(path): file for path, file in args[0]})


def total(args: list[Value], site: CallSite) -> Dir:
    """All files of some directories; the last of a path wins."""
    files: dict[str, File] = {}
    for directory in args[0]:
        files.update(directory.files)
    return Dir(files)


def pick(args: list[Value], site: CallSite) -> tuple[File, bytes]:
    """The first file whose path matches a glob pattern, and its path."""
    directory, pattern = args
    if len(directory):
        glob = compile_glob(pattern)
        for path, file in directory.items():
            name = path_bytes(path)
            if glob.is_match(name):
                return file, name
    raise EvalError(f"dirs.Pick: no files matched {_path(pattern)}")


def files(args: list[Value], site: CallSite) -> list[File]:
    """The files in order of their paths."""
    return [file for _, file in args[0].items()]


def copy(args: list[Value], site: CallSite) -> Flow:
    """Put a directory at a URL."""
    directory, raw = args
    return extern(directory.fileset(), raw.rstrip(b"/") + b"/", "dirs.Copy", site)


def fileset(args: list[Value], site: CallSite) -> Value:
    """A fileset as a directory."""
    (value,) = args
    return dir_of(value) if isinstance(value, Flow) else fileset_to_dir(value)


def _path(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


FUNCTIONS = {
    "Groups": Native(groups, is_flow=True),
    "Make": Native(make, Mode.FORCED),
    "FromList": Native(from_list, Mode.FORCED),
    "Sum": Native(total, Mode.FORCED),
    "Pick": Native(pick),
    "Files": Native(files),
    "Copy": Native(copy, is_flow=True),
    "Fileset": Native(fileset, is_flow=True),
}
