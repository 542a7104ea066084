"""The assoc maps (kind, key digest) to the digest of a value object: Reflow's cache index.

Keys come from `reflow.flow.digest.cache_keys`; values are stored filesets in a repository.
Implementations: `sqlite`, `memory`.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import ReflowError

__all__ = ["Assoc", "AssocEntry", "Collectable", "Key", "Kind", "Revivable"]


class Kind(enum.IntEnum):
    """What a key maps to; the values are the original's."""

    FILESET = 0
    """The JSON form of old versions; read, never written."""
    FILESET_V2 = 1

    def __str__(self) -> str:
        return "Fileset" if self is Kind.FILESET else "FilesetV2"


Key = tuple[Kind, Digest]


@dataclass(frozen=True, slots=True)
class AssocEntry:
    """A row: its key, its values by kind, when it was last used (Unix seconds) and who wrote it."""

    key: Digest
    values: Mapping[Kind, Digest]
    last_access_s: int
    labels: frozenset[str]


class Assoc(Protocol):
    """The index. All methods may be called at the same time, by several processes too."""

    async def open(self) -> None:
        """Make sure that it can be used. Raises what is wrong with it: newer, damaged, not readable."""
        ...

    async def get_many(self, keys: Collection[Key]) -> Mapping[Key, Digest | ReflowError]:
        """Look keys up; absent ones are left out, broken entries have their error. Refreshes access times."""
        ...

    async def put_many(self, entries: Mapping[Key, Digest]) -> None:
        """Store entries, replacing older values. They are durable when this returns."""
        ...

    async def expand(self, prefix: DigestPrefix) -> list[Digest]:
        """Keys that an abbreviated digest may stand for."""
        ...

    async def delete(self, key: Digest) -> None:
        """Remove a key with all kinds. Raises NOT_EXIST."""
        ...

    def scan(self) -> AsyncIterator[AssocEntry]:
        """Every row, in no particular order."""
        ...

    async def count(self) -> int:
        """Number of rows."""
        ...

    async def close(self) -> None:
        """Make everything durable and let go of resources."""
        ...


@runtime_checkable
class Collectable(Protocol):
    """An index whose old entries can be removed while others use it.

    An entry that was looked up does not stay removed under the one who did, unless its time of access is of
    the last day anyway: either that is refreshed before the value is handed out, or soon after it, and an
    entry that was removed in between is put back.
    """

    async def delete_unused(self, entries: Sequence[AssocEntry]) -> int:
        """Remove entries that were not used since they were scanned; how many were removed."""
        ...

    def rows(self, used_since_s: int = 0) -> AsyncIterator[AssocEntry]:
        """Every row, also one that has lost its values; or those used at a time (Unix seconds) or later.

        The latter are as they are now; of the others what was written lately may be missing.
        """
        ...


@runtime_checkable
class Revivable(Protocol):
    """An index in which others may set the time of access of an entry that was removed under them."""

    async def revive(self, entries: Sequence[AssocEntry]) -> int:
        """Give entries back their values where only a time of access is left; how many have them back."""
        ...
