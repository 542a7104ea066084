"""The assoc in memory: for tests, and for runs that remember nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from reflow.assoc import Assoc, AssocEntry, Collectable, Key, Kind
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError


class MemoryAssoc:
    """An index in a dictionary. ``labels`` are put on what is written."""

    def __init__(self, labels: Collection[str] = ()) -> None:
        self._labels = frozenset(labels)
        self._rows: dict[Digest, AssocEntry] = {}

    async def open(self) -> None:
        """It is always there."""

    async def get_many(self, keys: Collection[Key]) -> Mapping[Key, Digest | ReflowError]:
        """Look keys up."""
        found: dict[Key, Digest | ReflowError] = {}
        for kind, digest in keys:
            row = self._rows.get(digest)
            if row is not None and kind in row.values:
                found[kind, digest] = row.values[kind]
                self._store(digest, row.values, row.labels)
        return found

    async def put_many(self, entries: Mapping[Key, Digest]) -> None:
        """Store entries."""
        for (kind, digest), value in entries.items():
            row = self._rows.get(digest)
            values: dict[Kind, Digest] = dict(row.values) if row is not None else {}
            labels = row.labels if row is not None else frozenset()
            self._store(digest, {**values, kind: value}, labels | self._labels)

    def _store(self, key: Digest, values: Mapping[Kind, Digest], labels: frozenset[str]) -> None:
        self._rows[key] = AssocEntry(key, values, int(time.time()), labels)

    async def expand(self, prefix: DigestPrefix) -> list[Digest]:
        """Keys that start with some bytes."""
        return sorted(filter(prefix.expands_to, self._rows))

    async def delete(self, key: Digest) -> None:
        """Remove a key. Raises NOT_EXIST."""
        if self._rows.pop(key, None) is None:
            raise ReflowError(ErrorKind.NOT_EXIST, "assoc.delete", cause=f"key {key} not found")

    def scan(self) -> AsyncIterator[AssocEntry]:
        """Every row."""
        return self.rows()

    async def rows(self, used_since_s: int = 0) -> AsyncIterator[AssocEntry]:
        """Every row, or those used since a time."""
        for row in list(self._rows.values()):
            if row.last_access_s >= used_since_s:
                yield row

    async def delete_unused(self, entries: Sequence[AssocEntry]) -> int:
        """Remove entries that were not used since they were scanned; how many were removed."""
        unused = [entry.key for entry in entries if self._rows.get(entry.key) == entry]
        for key in unused:
            del self._rows[key]
        return len(unused)

    async def count(self) -> int:
        """Number of rows."""
        return len(self._rows)

    async def close(self) -> None:
        """Keep the rows: whoever holds this may go on."""


if TYPE_CHECKING:
    _: type[Assoc] = MemoryAssoc
    _collectable: type[Collectable] = MemoryAssoc
