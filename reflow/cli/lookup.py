"""Abbreviated ids of objects."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.repository import Repository


@runtime_checkable
class Finder(Protocol):
    """A repository that can look for objects by the beginning of their digests."""

    async def find(self, prefix: DigestPrefix) -> list[Digest]:
        """Objects whose digests begin so."""
        ...


async def expand(repository: Repository, prefix: DigestPrefix) -> Digest:
    """The only object whose digest begins so.

    Raises NOT_EXIST when there is none, INVALID when there are several or nobody can tell.
    """
    if prefix.full is not None:
        return prefix.full
    if not isinstance(repository, Finder):
        raise ReflowError(Kind.INVALID, "", str(prefix), cause="this repository wants ids in full")
    found = await repository.find(prefix)
    if not found:
        raise ReflowError(Kind.NOT_EXIST, "", str(prefix), cause="no object begins so")
    if len(found) > 1:
        raise ReflowError(Kind.INVALID, "", cause=f"abbreviated id {prefix} not unique")
    return found[0]
