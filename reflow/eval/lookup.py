"""Look-ups of cells in the cache: by the keys that are known, then by those that the registry adds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reflow.core.digest import Digest
from reflow.eval import CacheMode
from reflow.eval.attempt import missing_outputs
from reflow.eval.cache import CacheReader, CacheWriter, Hit, Query
from reflow.eval.explain import Decisions, Miss
from reflow.eval.imagename import ImageNames
from reflow.eval.worklist import WorkList
from reflow.flow.digest import cache_keys, digest
from reflow.flow.node import Exec, Intern

if TYPE_CHECKING:
    from reflow.core.fileset import Fileset
    from reflow.eval import EvalConfig, EvalStats
    from reflow.eval.assertions import Witness
    from reflow.eval.cell import Cell

LOOK_UP_ID = Digest.of_text("batch cache lookup")
"""What the spans of all look-ups belong to."""

_NOTED = 50


class Ledger(NamedTuple):
    """Where look-ups are told of. ``settle`` gives a cell the value that the cache has."""

    stats: EvalStats
    decisions: Decisions
    settle: Callable[[Cell, Fileset], object]


class LookUps:
    """Looks batches of cells up and tells the work-list. ``writer`` repairs keys, if there is one."""

    def __init__(
        self,
        config: EvalConfig,
        work: WorkList,
        images: ImageNames,
        ledger: Ledger,
        reader: CacheReader,
        writer: CacheWriter | None,
    ) -> None:
        self._config = config
        self._work = work
        self._images = images
        self._ledger = ledger
        self._reader = reader
        self._writer = writer

    async def run(self, batch: Sequence[tuple[Cell, bool]]) -> None:
        """Look cells up; an exec that is missed under the keys known at once may have one more."""
        began_s = time.time()
        if self._config.is_repair:
            await self._images.learn([cell.node for cell, _ in batch])
        queries = [self._query(cell, missed_name) for cell, missed_name in batch]
        missed = await self._find([cell for cell, _ in batch], queries)
        again = await self._with_image_keys(missed)
        pending = {cell for cell, _ in again}
        for cell, _ in missed:
            if cell not in pending:
                self._work.missed(cell)
        for cell, _ in await self._find([cell for cell, _ in again], [query for _, query in again]):
            self._work.missed(cell)
        if self._config.span is not None:
            names = [digest(cell.node).short for cell, _ in batch]
            notes = {"FlowID": ",".join(names[:_NOTED]) + (",…" if len(names) > _NOTED else "")}
            self._config.span("Cache", f"batch cache lookup ({len(batch)})", LOOK_UP_ID, began_s, notes)

    async def _with_image_keys(self, missed: Sequence[tuple[Cell, Query]]) -> list[tuple[Cell, Query]]:
        """Those that have another key now that the registry was asked for their images."""
        if not self._images.can_resolve:
            return []
        complete = [(cell, query) for cell, query in missed if query.values is not None]
        await self._images.learn([query.node for _, query in complete])
        again = []
        for cell, query in complete:
            before = cache_keys(query.node, query.values)
            keys = cache_keys(query.node, query.values, self._images.known(query.node))
            if len(keys) > len(before):
                again.append((cell, query._replace(keys=keys[: len(keys) - len(before)])))
        return again

    def _query(self, cell: Cell, missed_name: bool) -> Query:
        values = self._work.values(cell.node)
        image = self._images.known(cell.node) if self._config.is_repair else None
        keys = cache_keys(cell.node, values, image)
        return Query(cell.node, keys[:-1] if missed_name else keys, values)

    async def _find(self, cells: Sequence[Cell], queries: Sequence[Query]) -> list[tuple[Cell, Query]]:
        """Settle the cells that the cache has; return the others."""
        if not cells:
            return []
        missed = []
        for cell, query, answer in zip(cells, queries, await self._reader.find(queries), strict=True):
            if isinstance(answer, Miss):
                self._ledger.decisions.missed(query.node, answer)
                missed.append((cell, query))
            else:
                self._take_hit(cell, query, answer)
        return missed

    def _take_hit(self, cell: Cell, query: Query, hit: Hit) -> None:
        node = cell.node
        assert isinstance(node, Exec | Intern)
        lost = missing_outputs(node, hit.fileset) if isinstance(node, Exec) else ""
        if lost:
            text = f"warning: {node.ident or '?'}: {lost}; -recomputeempty computes it again"
            self._config.report.message("info", text)
        elif self._writer is not None and hit.absent:
            # Repair: the keys that lack the entry get it; an entry of the first version is written anew.
            known = hit.object if hit.kind else None
            self._writer.add(node, hit.absent if known else query.keys, hit.fileset, known)
        if isinstance(node, Exec):
            self._ledger.stats.cached += 1
        self._ledger.decisions.hit(node, query.values, hit.fileset, hit.key)
        self._config.report.cached(node, hit.fileset, hit.key)
        self._ledger.settle(cell, hit.fileset)


def open_cache(config: EvalConfig, witness: Witness) -> tuple[CacheReader | None, CacheWriter | None]:
    """What reads and what writes the cache, as far as the mode has it."""
    if config.assoc is None or config.cache is CacheMode.OFF:
        return None, None
    log = config.report.message
    reader = CacheReader(
        config.assoc,
        config.repository,
        config.key_namespace,
        witness.contradiction,
        log,
        recompute_empty=config.recompute_empty,
    )
    writer = CacheWriter(config.assoc, config.repository, config.key_namespace, log, config.span)
    return (
        reader if CacheMode.READ in config.cache else None,
        writer if CacheMode.WRITE in config.cache and not config.is_dry else None,
    )
