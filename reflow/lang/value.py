"""Values of the language as Python objects.

| type | object |
| --- | --- |
| int, bool | `int`, `bool` |
| float | a `reflow.lang.number` float (64-bit mantissa) |
| string | `bytes` |
| file, fileset | `reflow.core.fileset.File`, `Fileset` |
| dir | `Dir` |
| unit | `UNIT` |
| list, tuple | `list` (never changed once made), `tuple` |
| struct, module | `Struct`: a `dict` of name -> value |
| map | `MapValue` |
| sum | `Variant` |
| func | anything with ``digest`` and ``apply`` |
| delayed | `reflow.flow.node.Flow`, at any place |

A value does not know its type; printing, digests and forcing take the type beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset, path_bytes

if TYPE_CHECKING:
    from reflow.lang.source import Pos

Value = Any


class Unit:
    """The only value of type unit."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "()"


UNIT = Unit()


class Struct(dict[str, Any]):
    """Fields by name; may hold more fields than its type says (width subtyping)."""

    __slots__ = ()


class Variant:
    """A tag, with an element when its type has one."""

    __slots__ = ("element", "has_element", "tag")

    def __init__(self, tag: str, element: Value = None, *, has_element: bool = False) -> None:
        self.tag = tag
        self.element = element
        self.has_element = has_element

    def __repr__(self) -> str:
        return f"#{self.tag}({self.element!r})" if self.has_element else f"#{self.tag}"


class MapValue:
    """A map: key digest -> (key, value). Iterates in ascending order of the keys' digests."""

    __slots__ = ("_entries", "_sorted")

    def __init__(self, entries: Iterable[tuple[Digest, Value, Value]] = ()) -> None:
        self._entries: dict[Digest, tuple[Value, Value]] = {
            digest: (key, value) for digest, key, value in entries
        }
        self._sorted: list[Digest] | None = None

    def get(self, key_digest: Digest) -> tuple[Value, Value] | None:
        """The entry of a key, by the key's digest."""
        return self._entries.get(key_digest)

    def __len__(self) -> int:
        return len(self._entries)

    def digests(self) -> list[Digest]:
        """The keys' digests, ascending."""
        if self._sorted is None:
            self._sorted = sorted(self._entries)
        return self._sorted

    def entries(self) -> Iterator[tuple[Digest, Value, Value]]:
        """(key digest, key, value) in order."""
        for digest in self.digests():
            key, value = self._entries[digest]
            yield digest, key, value

    def items(self) -> Iterator[tuple[Value, Value]]:
        """(key, value) in order."""
        for digest in self.digests():
            yield self._entries[digest]


class Dir:
    """A directory: path -> File. Iterates in byte order of the paths."""

    __slots__ = ("_fileset", "_paths", "files")

    def __init__(self, files: Mapping[str, File] | None = None) -> None:
        self.files: dict[str, File] = dict(files or {})
        self._paths: list[str] | None = None
        self._fileset: Fileset | None = None

    def paths(self) -> list[str]:
        """Paths in byte order."""
        if self._paths is None:
            self._paths = sorted(self.files, key=path_bytes)
        return self._paths

    def items(self) -> Iterator[tuple[str, File]]:
        """(path, file) in order."""
        for path in self.paths():
            yield path, self.files[path]

    def __len__(self) -> int:
        return len(self.files)

    def fileset(self) -> Fileset:
        """The same as a fileset: one for all who ask."""
        if self._fileset is None:
            self._fileset = Fileset(self.files)
        return self._fileset


class CallSite:
    """Where a function is called: position, and the identifier of the value being computed."""

    __slots__ = ("ident", "pos", "session")

    def __init__(self, session: Any, pos: Pos, ident: str) -> None:
        self.session = session
        self.pos = pos
        self.ident = ident
