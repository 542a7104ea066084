"""The cache as the evaluator uses it: look-ups in batches, writes behind the evaluation's back.

An entry is a value object (a stored fileset) in the repository, found through the assoc under each of a
node's keys. A hit counts only when every file of the fileset is in the repository. Entries of the second
version are preferred on any key to those of the first on all.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from copy import copy
from typing import Any, NamedTuple

from reflow.assoc import Assoc, Key, Kind
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError, kind_of
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import decode_fileset, encode_fileset
from reflow.core.units import format_size
from reflow.eval import KeyNamespace, SpanTaker
from reflow.eval.explain import NOT_FOUND, Miss, Verdict
from reflow.flow.digest import digest
from reflow.flow.node import Flow
from reflow.repository import Repository

Log = Callable[[str, str], None]
Contradiction = Callable[[Sequence[Any] | None, Fileset], Awaitable[str]]

BREATH = 64
"""Filesets that are coded between two chances for other work of the event loop."""

WRITE_BATCH = 256


class Query(NamedTuple):
    """A node to look up under ``keys``, in this order. ``values``: of its dependencies, if known."""

    node: Flow
    keys: Sequence[Digest]
    values: Sequence[Any] | None


class Hit(NamedTuple):
    """What was found: the fileset, the key and kind it was found under, and its object's digest.

    ``absent`` are the keys that lack it.
    """

    fileset: Fileset
    key: Digest
    kind: Kind
    object: Digest
    absent: Sequence[Digest]


class _Candidate(NamedTuple):
    key: Digest
    kind: Kind
    object: Digest


class CacheReader:
    """Looks batches of nodes up. Trouble of the storage is logged and makes misses, never failures."""

    def __init__(
        self,
        assoc: Assoc,
        repository: Repository,
        namespace: KeyNamespace | None,
        contradiction: Contradiction,
        log: Log,
        *,
        recompute_empty: bool,
    ) -> None:
        self._assoc = assoc
        self._repository = repository
        self._namespace = namespace
        self._contradiction = contradiction
        self._log = log
        self._recompute_empty = recompute_empty
        self._told: set[Digest] = set()
        """Value objects of which it was said that files are missing: they are met once per key."""
        self._trouble = ""
        """What kept a batch from being looked up as it should; empty when nothing did."""

    async def find(self, queries: Sequence[Query]) -> list[Hit | Miss]:
        """Look up all queries with few requests; the answers are in their order."""
        batch = copy(self)  # several may be on their way at once, each with its own trouble
        return await batch._find(queries)

    async def _find(self, queries: Sequence[Query]) -> list[Hit | Miss]:
        rows = await self._rows(queries)
        hits = await self._read(queries, [self._candidates(query, rows) for query in queries])
        missing = await self._missing(hits)
        unknown = Miss(Verdict.TROUBLE, self._trouble) if self._trouble else NOT_FOUND
        found: list[Hit | Miss] = []
        for query, hit in zip(queries, hits, strict=True):
            if hit is None:
                found.append(unknown)
            else:
                objection = await self._objection(query, hit, missing)
                found.append(objection or self._with_absent(query, hit, rows))
        return found

    def _stored(self, key: Digest) -> Digest:
        return key if self._namespace is None else self._namespace(key)

    async def _rows(self, queries: Sequence[Query]) -> dict[Key, Digest]:
        stored = {self._stored(key) for query in queries for key in query.keys}
        wanted = [(kind, key) for kind in (Kind.FILESET_V2, Kind.FILESET) for key in stored]
        rows: dict[Key, Digest] = {}
        try:
            answers = await self._assoc.get_many(wanted)
        except ReflowError as err:
            self._complain(f"assoc.BatchGet: {err}")
            return rows
        for key, answer in answers.items():
            if isinstance(answer, ReflowError):
                self._complain(f"assoc.BatchGet: {key[1]} {answer}")
            else:
                rows[key] = answer
        return rows

    def _candidates(self, query: Query, rows: dict[Key, Digest]) -> deque[_Candidate]:
        candidates: deque[_Candidate] = deque()
        for kind in (Kind.FILESET_V2, Kind.FILESET):
            for key in query.keys:
                answer = rows.get((kind, self._stored(key)))
                if answer is not None:
                    candidates.append(_Candidate(key, kind, answer))
        return candidates

    async def _read(
        self, queries: Sequence[Query], candidates: Sequence[deque[_Candidate]]
    ) -> list[Hit | None]:
        """The first candidate of each query that can be read and decoded."""
        hits: list[Hit | None] = [None] * len(queries)
        decoded: dict[tuple[Kind, Digest], Fileset | None] = {}
        open_queries = [number for number, each in enumerate(candidates) if each]
        while open_queries:
            await self._decode([candidates[number][0] for number in open_queries], decoded)
            still_open = []
            for number in open_queries:
                candidate = candidates[number].popleft()
                fileset = decoded[candidate.kind, candidate.object]
                if fileset is not None:
                    hits[number] = Hit(fileset, candidate.key, candidate.kind, candidate.object, ())
                elif candidates[number]:
                    still_open.append(number)
            open_queries = still_open
        return hits

    async def _decode(
        self, candidates: Iterable[_Candidate], decoded: dict[tuple[Kind, Digest], Fileset | None]
    ) -> None:
        """Add the filesets of candidates; None for those that cannot be had."""
        wanted = {(each.kind, each.object) for each in candidates} - decoded.keys()
        objects = await self._objects({name for _, name in wanted})
        for number, (kind, name) in enumerate(wanted):
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            data = objects.get(name)
            fileset = None
            if isinstance(data, bytes):
                try:
                    fileset = decode_fileset(data, kind)
                except ReflowError as err:
                    self._complain(f"unmarshal {name}: {err}")
            elif data is not None and kind_of(data) is not ErrorKind.NOT_EXIST:
                self._complain(f"unmarshal {name}: {data}")
            decoded[kind, name] = fileset

    async def _objects(self, digests: Collection[Digest]) -> dict[Digest, bytes | ReflowError]:
        if not digests:
            return {}
        try:
            return dict(await self._repository.read_many(digests))
        except ReflowError as err:
            return dict.fromkeys(digests, err)

    async def _missing(self, hits: Iterable[Hit | None]) -> set[Digest] | None:
        """Files of the hits that are not in the repository; None when it cannot tell."""
        files = {
            file.id: file.size
            for hit in hits
            if hit is not None
            for file in hit.fileset.all_files()
            if file.id is not None
        }
        if not files:
            return set()
        try:
            return await self._repository.missing(files)
        except ReflowError as err:
            self._complain(f"cache.Lookup: {err}")
            return None

    def _complain(self, text: str) -> None:
        self._trouble = self._trouble or text
        self._log("error", text)

    async def _objection(self, query: Query, hit: Hit, missing: set[Digest] | None) -> Miss | None:
        """Why a fileset that was found may not be used, if so."""
        if missing is None:
            return Miss(Verdict.TROUBLE, self._trouble)
        fileset = hit.fileset
        absent = [file for file in fileset.all_files() if file.id is None or file.id in missing]
        if absent:
            return self._absent(query, hit, absent)
        reason = await self._contradiction(query.values, fileset)
        if reason:
            self._log("debug", reason)
            return Miss(Verdict.CONTRADICTED, reason)
        if self._recompute_empty and fileset.any_empty():
            self._log("debug", f"recomputing empty value for {query.node.ident or '?'}")
            return Miss(Verdict.EMPTY)
        return None

    def _absent(self, query: Query, hit: Hit, absent: Sequence[File]) -> Miss:
        """Say, once for each value object, that files of it are missing."""
        size = format_size(sum(file.size for file in absent))
        if hit.object not in self._told:
            self._told.add(hit.object)
            what = f"resource does not exist: missing {len(absent)} files ({size})"
            self._log("error", f"cache.Lookup {query.node.ident or '?'}: {what}; it is computed again")
        names = ", ".join([file.short() for file in absent[:5]]) + (", …" if len(absent) > 5 else "")
        return Miss(Verdict.OBJECTS_MISSING, f"{len(absent)} files ({size}): {names}")

    def _with_absent(self, query: Query, hit: Hit, rows: dict[Key, Digest]) -> Hit:
        absent = [key for key in query.keys if (Kind.FILESET_V2, self._stored(key)) not in rows]
        return hit._replace(absent=absent) if absent else hit


class _Write(NamedTuple):
    """Keys to be set to a node's fileset; ``object`` is its digest when it is stored already."""

    node: Flow
    keys: Sequence[Digest]
    fileset: Fileset
    object: Digest | None

    @property
    def name(self) -> str:
        """How messages name it."""
        return self.node.ident or self.node.op


class CacheWriter:
    """Writes finished results. What is added stays queued until it is written or has failed."""

    def __init__(
        self,
        assoc: Assoc,
        repository: Repository,
        namespace: KeyNamespace | None,
        log: Log,
        span: SpanTaker | None = None,
    ) -> None:
        self.failures: list[str] = []
        self._assoc = assoc
        self._repository = repository
        self._namespace = namespace
        self._log = log
        self._span = span
        self._queue: deque[_Write] = deque()
        self._wake = asyncio.Event()

    def add(self, node: Flow, keys: Sequence[Digest], fileset: Fileset, object: Digest | None = None) -> None:
        """Have a result written soon."""
        stored = keys if self._namespace is None else [self._namespace(key) for key in keys]
        self._queue.append(_Write(node, stored, fileset, object))
        self._wake.set()

    @property
    def pending(self) -> int:
        """How many results are to be written yet."""
        return len(self._queue)

    async def run(self) -> None:
        """Write what is added, until it is cancelled; results that come together are written together."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._write_batch()

    async def drain(self) -> list[str]:
        """Write all that is queued; return what could not be written, one text each."""
        while self._queue:
            await self._write_batch()
        return self.failures

    async def _write_batch(self) -> None:
        batch = [self._queue[number] for number in range(min(WRITE_BATCH, len(self._queue)))]
        began_s, failed = time.time(), len(self.failures)
        try:
            await self._write([write for write in batch if write.object is None])
            repairs = {
                (Kind.FILESET_V2, key): write.object
                for write in batch
                if write.object is not None
                for key in write.keys
            }
            if repairs:
                await self._assoc.put_many(repairs)
        except ReflowError as err:
            names = ", ".join([write.name for write in batch[:3]]) + (", …" if len(batch) > 3 else "")
            self._fail(f"cache write {names}: {err}", len(batch) - (len(self.failures) - failed))
        # Only now: a batch that is interrupted is written again by `drain`.
        for write in batch:
            self._queue.popleft()
            if self._span is not None:
                name = digest(write.node)
                self._span("Cache", f"cache write {name.short}", name, began_s, {})

    async def _write(self, batch: Sequence[_Write]) -> None:
        writes, objects = await self._encode(await self._complete(batch))
        if not writes:
            return
        names = await self._repository.put_bytes_many(objects)
        entries: dict[Key, Digest] = {}
        for write, name in zip(writes, names, strict=True):
            for key in write.keys:
                entries[Kind.FILESET_V2, key] = name
        await self._assoc.put_many(entries)

    async def _complete(self, batch: Sequence[_Write]) -> list[_Write]:
        """The writes whose files are all in the repository."""
        files = {
            file.id: file.size for write in batch for file in write.fileset.all_files() if file.id is not None
        }
        missing = await self._repository.missing(files) if files else set()
        complete = []
        for write in batch:
            lost = [file for file in write.fileset.all_files() if file.id is None or file.id in missing]
            if lost:
                names = ", ".join([file.short() for file in lost[:5]])
                where = f"repository {self._repository.url}"
                self._fail(f"cache write {write.name}: {where} lacks {len(lost)} of its files: {names}")
            else:
                complete.append(write)
        return complete

    async def _encode(self, batch: Sequence[_Write]) -> tuple[list[_Write], list[bytes]]:
        writes, objects = [], []
        for number, write in enumerate(batch):
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            try:
                objects.append(encode_fileset(write.fileset))
            except ReflowError as err:
                self._fail(f"cache write {write.name}: {err}")
            else:
                writes.append(write)
        return writes, objects

    def _fail(self, text: str, count: int = 1) -> None:
        """Note, for each of ``count`` results, why it could not be written; say it once."""
        self.failures += [text] * count
        self._log("error", text)
