"""A program's result as a tree of files, for ``run -out``.

| value | placed as |
| --- | --- |
| file | a file |
| dir, fileset | a directory (a fileset of one lone file: a file) |
| list, tuple | a directory of 0, 1, … |
| struct, module | a directory of its fields |
| map | a directory of its keys, escaped |
| variant | a text file with its tag, or a directory that has its element under the tag |
| string | a text file with its bytes |
| int, float, bool, unit | a text file of one line |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset, path_bytes
from reflow.lang.print_value import show
from reflow.lang.types import ListType, MapType, StructType, SumType, TupleType, Type
from reflow.lang.value import Dir

Entry = Digest | bytes | None
"""An object; the bytes of a small file; or a directory."""

_PLAIN_KEY_BYTES = frozenset(range(0x21, 0x7F)) - frozenset(b"/%\\") | {0x20}
_MAX_NAME_BYTES = 255


class ResultTree(NamedTuple):
    """``entries``: relative path -> what is there; the lone path ``.`` is the result itself.

    ``sizes`` are those of its objects, in bytes.
    """

    entries: dict[str, Entry]
    sizes: dict[Digest, int]


def result_tree(value: Any, type: Type) -> ResultTree:
    """What a result is as files.

    Raises ReflowError for what is no data (functions) or is not here (references to objects elsewhere).
    """
    tree = ResultTree({}, {})
    _Tree(tree).add("", value, type)
    return tree


class _Tree:
    """Collects entries. Names are relative paths, empty for the result itself."""

    def __init__(self, tree: ResultTree) -> None:
        self._entries, self._sizes = tree

    def add(self, name: str, value: Any, type: Type) -> None:
        if isinstance(value, Fileset):
            self._add_fileset(name, value)
            return
        adder = _ADDERS.get(type.kind)
        if adder is not None:
            adder(self, name, value, type)
        elif type.kind == "string":
            self._put(name, value)
        elif type.kind in ("int", "float", "bool", "unit"):
            self._put(name, f"{show(value, type)}\n".encode())
        else:
            raise ReflowError(Kind.INVALID, "out", cause=f"a value of type {type} cannot be placed")

    def _put(self, name: str, entry: Entry) -> None:
        self._entries[name or "."] = entry

    def _add_file(self, name: str, file: File) -> None:
        if file.id is None:
            cause = f"{file.source} is a reference to an object elsewhere; copy it with files.Copy instead"
            raise ReflowError(Kind.NOT_SUPPORTED, "out", cause=cause)
        self._sizes[file.id] = file.size
        self._put(name, file.id)

    def _add_fileset(self, name: str, fileset: Fileset) -> None:
        if fileset.members is not None:
            self._add_all(
                name, {str(index): each for index, each in enumerate(fileset.members)}, self._add_fileset
            )
        elif list(fileset.files) == ["."]:
            self._add_file(name, fileset.files["."])
        else:
            self._add_all(name, fileset.files, self._add_file)

    def _add_all(self, name: str, parts: Mapping[str, Any], add: Callable[[str, Any], None]) -> None:
        """Add named parts below a directory; without any it is an empty directory."""
        if not parts:
            self._put(name, None)
        for part, value in parts.items():
            add(f"{name}/{part}" if name else part, value)

    def add_file(self, name: str, value: File, _type: Type) -> None:
        self._add_file(name, value)

    def add_dir(self, name: str, value: Dir, _type: Type) -> None:
        self._add_all(name, value.files, self._add_file)

    def add_list(self, name: str, value: list[Any], type_: ListType) -> None:
        parts = {str(index): each for index, each in enumerate(value)}
        self._add_all(name, parts, lambda part, each: self.add(part, each, type_.element))

    def add_tuple(self, name: str, value: tuple[Any, ...], type_: TupleType) -> None:
        pairs = zip(value, type_.fields, strict=False)
        parts = {str(index): (each, field.type) for index, (each, field) in enumerate(pairs)}
        self._add_all(name, parts, lambda part, pair: self.add(part, *pair))

    def add_struct(self, name: str, value: Mapping[str, Any], type_: StructType) -> None:
        parts = {field.name: (value[field.name], field.type) for field in type_.fields}
        self._add_all(name, parts, lambda part, pair: self.add(part, *pair))

    def add_map(self, name: str, value: Any, type_: MapType) -> None:
        parts = {key_name(key, type_.key): each for key, each in value.items()}
        self._add_all(name, parts, lambda part, each: self.add(part, each, type_.value))

    def add_sum(self, name: str, value: Any, type_: SumType) -> None:
        variant = type_.variant(value.tag)
        if variant is None or variant.element is None:
            self._put(name, f"#{value.tag}\n".encode())
        else:
            self.add(f"{name}/{value.tag}" if name else value.tag, value.element, variant.element)


_ADDERS: dict[str, Callable[[_Tree, str, Any, Any], None]] = {
    "file": _Tree.add_file,
    "dir": _Tree.add_dir,
    "list": _Tree.add_list,
    "tuple": _Tree.add_tuple,
    "struct": _Tree.add_struct,
    "module": _Tree.add_struct,
    "map": _Tree.add_map,
    "sum": _Tree.add_sum,
}


def key_name(key: Any, type: Type) -> str:
    """A map's key as the name of a file.

    Slashes, percent signs, control characters and names that mean something else are written as ``%2F``;
    characters beyond ASCII stay. A key too long for a name is cut, and told from others by its digest.
    """
    text = key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else show(key, type)
    if text in ("", ".", ".."):
        return "".join([f"%{ord(char):02X}" for char in text]) or "%"
    name = "".join([_escaped(char) for char in text])
    raw = path_bytes(name)
    if len(raw) <= _MAX_NAME_BYTES:
        return name
    short = Digest.of_text(text).hex()[:16]
    head = raw[: _MAX_NAME_BYTES - len(short) - 1].decode("utf-8", "ignore")
    return f"{head}~{short}"


def _escaped(char: str) -> str:
    code = ord(char)
    if code in _PLAIN_KEY_BYTES or (code >= 0xA0 and not 0xDC80 <= code <= 0xDCFF):
        return char
    return "".join([f"%{byte:02X}" for byte in path_bytes(char)])
