"""Files and filesets: the values that execs take and give.

A `File` is either *resolved* (its content digest ``id`` is known) or a *reference* to an object
elsewhere (``source`` and what is known of it). A `Fileset` is a mapping of path -> File, or a list
of filesets. Paths are relative and ``/``-separated; a single file has the path ``.``. Bytes of a path
that are no UTF-8 are kept by surrogateescape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar

from reflow.core.assertion import NO_ASSERTIONS, Assertions
from reflow.core.digest import WIRE_HEADER, Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.units import format_size

_T = TypeVar("_T")

_LARGE = 32
"""Files, or members, from which on a fileset remembers what was made of it."""


def path_bytes(path: str) -> bytes:
    """The bytes of a path; paths are ordered by them."""
    return path.encode("utf-8", "surrogateescape")


class File:
    """A file's contents (``id``), or a reference to them. Immutable.

    ``size`` is in bytes; ``etag`` keeps its quotes; ``content_hash`` is a digest promised by the
    source of a reference. Equality: two resolved files by ``id``; two references by size, source and
    equal non-empty ETag (and content hash, when both have one).
    """

    __slots__ = ("assertions", "content_hash", "etag", "id", "last_modified", "size", "source")

    def __init__(
        self,
        id: Digest | None = None,
        size: int = 0,
        source: str = "",
        etag: str = "",
        last_modified: datetime | None = None,
        content_hash: Digest | None = None,
        assertions: Assertions = NO_ASSERTIONS,
    ) -> None:
        self.id = id
        self.size = size
        self.source = source
        self.etag = etag
        self.last_modified = last_modified
        self.content_hash = content_hash
        self.assertions = assertions

    @property
    def is_resolved(self) -> bool:
        """Whether the content digest is known."""
        return self.id is not None

    @property
    def digest(self) -> Digest:
        """What stands for this file inside other digests."""
        if self.id is not None:
            return self.id
        if self.content_hash is not None:
            return self.content_hash
        material = self.size.to_bytes(8, "little", signed=True) + (self.source + self.etag).encode(
            "utf-8", "surrogateescape"
        )
        return Digest.of(material + self.assertions.material())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        if self.id is not None or other.id is not None:
            return self.id == other.id
        if self.content_hash and other.content_hash and self.content_hash != other.content_hash:
            return False
        return (
            self.size == other.size
            and self.source == other.source
            and bool(self.etag)
            and self.etag == other.etag
        )

    def __hash__(self) -> int:
        return hash(self.id) if self.id is not None else hash((self.size, self.source))

    def with_assertions(self, assertions: Assertions) -> File:
        """The same file with other assertions."""
        return File(
            self.id, self.size, self.source, self.etag, self.last_modified, self.content_hash, assertions
        )

    def short(self) -> str:
        """First 8 digits of the content digest, or the source of a reference."""
        return self.id.short if self.id is not None else self.source

    def __repr__(self) -> str:
        return f"File({self.short()}, {self.size})"


class Fileset:
    """A mapping of path -> File, or a list of filesets. Immutable.

    ``members`` is None for a mapping. When a decoded fileset has both, the list wins in digests and
    texts, as in the original. A large one remembers what was made of it.
    """

    __slots__ = ("_memo", "files", "members")

    def __init__(
        self, files: Mapping[str, File] | None = None, members: Sequence[Fileset] | None = None
    ) -> None:
        self.files: dict[str, File] = dict(files or {})
        self.members: tuple[Fileset, ...] | None = None if members is None else tuple(members)
        self._memo: dict[str, Any] | None = None

    @classmethod
    def of_file(cls, file: File) -> Fileset:
        """The fileset of one lone file."""
        return cls({".": file})

    def file(self) -> File:
        """The lone file at ``.``. Raises PRECONDITION when this is not exactly one file there."""
        count = self.count()
        if count != 1:
            raise ReflowError(Kind.PRECONDITION, "fileset.file", cause=f"contains {count} files (!=1)")
        if "." not in self.files:
            raise ReflowError(Kind.PRECONDITION, "fileset.file", cause='missing Map["."]')
        return self.files["."]

    def sorted_paths(self) -> list[str]:
        """Paths of the mapping in byte order."""
        if len(self.files) < 2:
            return list(self.files)
        return self.remembered("paths", lambda: sorted(self.files, key=path_bytes))

    @property
    def is_large(self) -> bool:
        """Whether what is made of it is worth keeping."""
        return len(self.files) >= _LARGE or (self.members is not None and len(self.members) >= _LARGE)

    def remembered(self, name: str, make: Callable[[], _T]) -> _T:
        """What ``make`` makes of this fileset: a constant, made once when the fileset is large."""
        if not self.is_large:
            return make()
        if self._memo is None:
            self._memo = {}
        if name not in self._memo:
            self._memo[name] = make()
        made: _T = self._memo[name]
        return made

    def all_files(self) -> Iterator[File]:
        """Every file, with repetitions, lists included."""
        stack = [self]
        while stack:
            fileset = stack.pop()
            yield from fileset.files.values()
            if fileset.members:
                stack.extend(reversed(fileset.members))

    def distinct_files(self) -> dict[Digest, File]:
        """Files by digest, each once."""
        return {file.digest: file for file in self.all_files()}

    def count(self) -> int:
        """Number of files, with repetitions."""
        return self.remembered("count", lambda: sum(1 for _ in self.all_files()))

    def size(self) -> int:
        """Bytes of all files, with repetitions."""
        return sum(file.size for file in self.all_files())

    @property
    def is_resolved(self) -> bool:
        """Whether the contents of all files are known."""
        return self.remembered("is_resolved", lambda: all(file.id is not None for file in self.all_files()))

    def is_empty(self) -> bool:
        """Tell whether there is no file anywhere."""
        return next(self.all_files(), None) is None

    def any_empty(self) -> bool:
        """Tell whether this fileset or some member of it has neither files nor members."""
        if not self.files and not self.members:
            return True
        return any(member.any_empty() for member in self.members or ())

    def flatten(self) -> tuple[Fileset, ...]:
        """The members of a list, or the fileset itself."""
        return (self,) if self.members is None else self.members

    def pullup(self) -> Fileset:
        """One mapping of everything; later members win."""
        if self.members is None:
            return self
        files = dict(self.files)
        for member in self.members:
            files.update(member.pullup().files)
        return Fileset(files)

    def map_files(self, replace: Mapping[Digest, File]) -> Fileset:
        """The same shape with files replaced, by their digest."""
        return Fileset(
            {path: replace.get(file.digest, file) for path, file in self.files.items()},
            None if self.members is None else [member.map_files(replace) for member in self.members],
        )

    def with_assertions(self, assertions: Assertions) -> Fileset:
        """The same fileset with ``assertions`` on every file."""
        return Fileset(
            {path: file.with_assertions(assertions) for path, file in self.files.items()},
            None if self.members is None else [each.with_assertions(assertions) for each in self.members],
        )

    def material(self) -> bytes:
        """The bytes that stand for this fileset inside digests."""
        return self.remembered("material", self._material)

    def _material(self) -> bytes:
        if self.members is not None:
            return b"".join([member.material() for member in self.members])
        if len(self.files) == 1:
            ((path, file),) = self.files.items()
            return path.encode("utf-8", "surrogateescape") + WIRE_HEADER + file.digest
        return b"".join(
            [path_bytes(path) + WIRE_HEADER + self.files[path].digest for path in self.sorted_paths()]
        )

    @property
    def digest(self) -> Digest:
        """Digest of the material."""
        return self.remembered("digest", lambda: Digest(sha256(self.material()).digest()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fileset):
            return NotImplemented
        return (self.members or ()) == (other.members or ()) and self.files == other.files

    def __hash__(self) -> int:
        return hash(self.digest)

    def short(self) -> str:
        """``val<PATH=FILE, ...SIZE>`` or ``list<…>``, for people."""
        if self.members:
            more = ", ..." if len(self.members) > 1 else " "
            return f"list<{self.members[0].short()}{more}{format_size(self.size())}>"
        if not self.files:
            return "val<>"
        path = self.sorted_paths()[0]
        more = ", ..." if len(self.files) > 1 else " "
        return f"val<{path}={self.files[path].short()}{more}{format_size(self.size())}>"

    def __repr__(self) -> str:
        return f"Fileset({self.short()})"


EMPTY_FILESET = Fileset()
