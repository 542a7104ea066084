"""Removing objects of a shared repository that nothing refers to.

The time of change of an object tells when it was stored last. Somebody may use one again just now who has
seen that it is there: its entry is a miss then, and it is computed anew.
"""

from __future__ import annotations

from collections.abc import Container

from reflow.core.digest import Digest
from reflow.repository.blobrepo import BlobRepository
from reflow.repository.maintenance import Collected

_BATCH = 1000


async def collect_shared(
    repository: BlobRepository,
    live: Container[Digest],
    dead: Container[Digest],
    before_s: float,
    *,
    dry_run: bool,
) -> Collected:
    """Remove objects that are not live, and are dead or were stored before ``before_s`` (Unix seconds)."""
    objects = removed = removed_bytes = 0
    going: list[Digest] = []
    async for digest, file in repository.objects():
        objects += 1
        stored_s = 0.0 if file.last_modified is None else file.last_modified.timestamp()
        if digest in live or (stored_s > before_s and digest not in dead):
            continue
        removed += 1
        removed_bytes += file.size
        going.append(digest)
        if len(going) == _BATCH and not dry_run:
            await repository.remove(going)
            going = []
    if going and not dry_run:
        await repository.remove(going)
    return Collected(objects, removed, removed_bytes)
