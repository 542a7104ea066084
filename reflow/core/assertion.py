"""Assertions: what was true of an input's source when it was read (ETag, size, time of change).

A set maps a key (namespace, subject) to properties. Sets are immutable and compared by digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

from reflow.core.digest import Digest

BLOB_NAMESPACE = "blob"


class AssertionKey(NamedTuple):
    """What an assertion is about; order is namespace, then subject, as everywhere in the formats."""

    namespace: str
    subject: str

    def __str__(self) -> str:
        return f"{{{self.subject} {self.namespace}}}"


class AssertionConflictError(ValueError):
    """Two sets say different things of one subject."""


class Assertions:
    """An immutable set: key -> properties (name -> value)."""

    def __init__(self, entries: Mapping[AssertionKey, Mapping[str, str]] | None = None) -> None:
        self.entries: dict[AssertionKey, dict[str, str]] = {
            key: dict(properties) for key, properties in sorted((entries or {}).items())
        }

    def __bool__(self) -> bool:
        return bool(self.entries)

    def material(self) -> bytes:
        """The bytes that stand for this set inside digests."""
        parts = [
            text
            for key, properties in self.entries.items()
            for name in sorted(properties)
            for text in (key.subject, key.namespace, name, properties[name])
        ]
        return "".join(parts).encode("utf-8", "surrogateescape")

    @cached_property
    def digest(self) -> Digest:
        """Digest of the material; that of nothing for an empty set."""
        return Digest.of(self.material())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Assertions) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.digest)

    def short(self) -> str:
        """``empty`` or ``#N``."""
        return f"#{len(self.entries)}" if self.entries else "empty"

    def __str__(self) -> str:
        words = [
            f"{key.namespace} {key.subject} {name}={properties[name]}"
            for key, properties in self.entries.items()
            for name in sorted(properties)
        ]
        return ", ".join(words) or "empty"


NO_ASSERTIONS = Assertions()


def merge_assertions(sets: Iterable[Assertions]) -> Assertions:
    """Join sets. Raises AssertionConflictError when two differ about one key."""
    distinct: dict[Digest, Assertions] = {each.digest: each for each in sets if each}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    merged: dict[AssertionKey, dict[str, str]] = {}
    for each in distinct.values():
        for key, properties in each.entries.items():
            known = merged.setdefault(key, properties)
            if known != properties:
                raise AssertionConflictError(f"conflict for {key}: {_difference(known, properties)}")
    return Assertions(merged)


def _difference(left: Mapping[str, str], right: Mapping[str, str]) -> str:
    names = sorted(left.keys() | right.keys())
    return ", ".join(
        f"{name} ({left.get(name, '<nil>')} -> {right.get(name, '<nil>')})"
        for name in names
        if left.get(name) != right.get(name)
    )
