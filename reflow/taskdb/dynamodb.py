"""The task database in a DynamoDB table, as the original lays it out; inspections are objects elsewhere.

Writes are collected and made every 100 ms, at most 32 at once; those that fail stay pending, and `flush`
raises why. When nobody answers, what is still to be written is not tried one by one: each would take as long
as the first. A row is updated, never replaced whole: attributes of others stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from reflow.aws.dynamodb import DynamoDB, Item, Request, gather
from reflow.aws.session import AwsSession
from reflow.core.digest import Digest, DigestPrefix, digest_text
from reflow.core.errors import Kind, ReflowError
from reflow.repository.gather import gather_all
from reflow.taskdb import Alloc, Clusters, ObjectKeeper, Pool, Run, RunQuery, Task, TaskDB, TaskQuery
from reflow.taskdb import dynamorow as rows
from reflow.taskdb.dynamoquery import first, matches_run, matches_task, readable
from reflow.taskdb.dynamorow import text_of

WRITE_INTERVAL_S = 0.1
_RETRY_S = 1.0
_SEGMENTS = 8
_LIFE = timedelta(minutes=2)
_DAY = timedelta(days=1)
_MOST_DAYS = 400
_SILENT = frozenset({Kind.NET, Kind.TIMEOUT})
"""Errors after which other writes need not be tried: nobody answers."""
_R = TypeVar("_R")


class _Batch(NamedTuple):
    runs: dict[Digest, Run]
    tasks: dict[Digest, Task]
    keepalives: dict[Digest, datetime]


class Objects(Protocol):
    """Where inspections are kept: a repository, usually of the database's own bucket."""

    async def open(self) -> None:
        """See whether it can be reached, and read."""
        ...

    async def read_many(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read objects; one that cannot be read has its error instead."""
        ...

    async def put_bytes_many(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store objects; their digests in order."""
        ...


class DynamoTaskDB:
    """The record in ``table``. ``labels`` (``key=value``) are put on the rows that are written here."""

    def __init__(
        self,
        session: AwsSession,
        table: str,
        repository: Objects,
        labels: Collection[str] = (),
        *,
        transport: str = "",
    ) -> None:
        self._database = DynamoDB(session, transport=transport)
        self._table = table
        self._repository = repository
        self._labels = sorted(set(labels))
        self._pending = _Batch({}, {}, {})
        self._running: dict[Digest, set[Digest]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing = asyncio.Lock()
        self._behind: asyncio.Task[None] | None = None
        self._silence: ReflowError | None = None
        """Why nothing could be written last time, if nobody answered."""

    # Writing.

    async def open(self) -> None:
        """See whether table and objects can be reached, and read."""
        request = {"TableName": self._table, "Key": {"ID": {"S": "sha256:"}}}
        await gather_all([self._database.call("GetItem", request), self._repository.open()])

    def put_run(self, run: Run) -> None:
        """Insert or replace a run's row."""
        self._pending.runs[run.id] = run
        self._schedule(WRITE_INTERVAL_S)

    def put_task(self, task: Task) -> None:
        """Insert or replace a task's row."""
        self._pending.tasks[task.id] = task
        running = self._running.setdefault(task.run_id, set())
        (running.add if task.end is None else running.discard)(task.id)
        self._schedule(WRITE_INTERVAL_S)

    def keepalive(self, run_id: Digest, until: datetime) -> None:
        """Say until when a run and the unfinished tasks that were put here live."""
        for id in (run_id, *self._running.get(run_id, ())):
            self._pending.keepalives[id] = max(until, self._pending.keepalives.get(id, until))
        self._schedule(WRITE_INTERVAL_S)

    def _schedule(self, delay_s: float) -> None:
        if self._timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # whoever has no loop calls flush
        self._timer = loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        """Write behind, one write at a time: others would wait, and `flush` for them."""
        self._timer = None
        if self._behind is None:
            self._behind = asyncio.ensure_future(self._write_behind())

    async def _write_behind(self) -> None:
        delay_s = WRITE_INTERVAL_S
        try:
            await self._write()
        except ReflowError:
            delay_s = _RETRY_S  # `flush` says what is wrong
        finally:
            self._behind = None
        if any(self._pending):
            self._schedule(delay_s)

    async def put_objects(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store what belongs to rows: bundles of programs, logs of execs."""
        return await self._repository.put_bytes_many(objects)

    async def read_objects(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read what belongs to rows."""
        return await self._repository.read_many(digests)

    async def flush(self) -> None:
        """Write everything now. Raises what keeps it from being written; the rows stay pending."""
        await self._write()

    async def close(self) -> None:
        """Write everything, and let go of connections. When nobody answered `flush` it is not tried again."""
        try:
            if self._silence is not None and any(self._pending):
                raise self._silence
            await self.flush()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._database.close()

    async def _write(self) -> None:
        """Write what is pending: rows first, then keepalives, which are conditional on them."""
        async with self._writing:
            self._silence = None
            batch, self._pending = self._pending, _Batch({}, {}, {})
            try:
                try:
                    await self._write_all(batch.runs, self._write_run)
                finally:  # a row that cannot be written keeps no other from it
                    await self._write_all(batch.tasks, self._write_task)
                await self._write_all(batch.keepalives, self._keep_alive)
            finally:
                self._put_back(batch)

    async def _write_all(self, waiting: dict[Digest, _R], write: Callable[[Digest, _R], Any]) -> None:
        """Write each and take it off; those that fail remain."""

        async def one(id: Digest) -> None:
            if self._silence is not None:
                raise self._silence
            try:
                await write(id, waiting[id])
            except ReflowError as err:
                if err.kind in _SILENT:
                    self._silence = err
                raise
            del waiting[id]

        await gather(one, list(waiting))

    def _put_back(self, batch: _Batch) -> None:
        newer = self._pending
        self._pending = _Batch(
            {**batch.runs, **newer.runs},
            {**batch.tasks, **newer.tasks},
            {**batch.keepalives, **newer.keepalives},
        )

    async def _write_run(self, id: Digest, run: Run) -> None:
        await self._update(rows.run_item(run, run.labels or self._labels), run)

    async def _write_task(self, id: Digest, task: Task) -> None:
        inspect = None
        if task.inspect is not None:
            data = rows.inspect_bytes(task.inspect, task.stdout, task.stderr)
            (inspect,) = await self._repository.put_bytes_many([data])
        await self._update(rows.task_item(task, task.labels or self._labels, inspect), task)

    async def _update(self, item: Item, row: Run | Task) -> None:
        """Set a row's attributes; a fresh row is alive until its start, an old one as long as it was."""
        kind = rows.RUN if isinstance(row, Run) else rows.TASK
        gone = [name for name in rows.optional_names(kind) if name not in item]
        first = rows.alive_item(row.keepalive or row.start)
        names = [name for name in item if name != "ID"]
        sets = [f"#{name} = :{name}" for name in names]
        sets += [f"#{name} = if_not_exists(#{name}, :{name})" for name in first]
        expression = f"SET {', '.join(sets)}"
        if gone:
            expression += f" REMOVE {', '.join(f'#{name}' for name in gone)}"
        request = {
            "TableName": self._table,
            "Key": {"ID": item["ID"]},
            "UpdateExpression": expression,
            "ExpressionAttributeNames": {f"#{name}": name for name in (*names, *first, *gone)},
            "ExpressionAttributeValues": {
                f":{name}": value for name, value in {**item, **first}.items() if name != "ID"
            },
            "ReturnValues": "UPDATED_NEW",
        }
        answer = await self._database.call("UpdateItem", request)
        alive = text_of(answer.get("Attributes", {}), "Keepalive")
        if row.keepalive is not None and alive < rows.stamp(row.keepalive):
            await self._keep_alive(row.id, row.keepalive)

    async def _keep_alive(self, id: Digest, until: datetime) -> None:
        """Set until when a row lives, unless it lives longer, or is not there."""
        values = {f":{name}": value for name, value in rows.alive_item(until).items()}
        request = {
            "TableName": self._table,
            "Key": {"ID": {"S": str(id)}},
            "UpdateExpression": "SET Keepalive = :Keepalive, #d = :Date",
            "ConditionExpression": "attribute_exists(ID)"
            " AND (attribute_not_exists(Keepalive) OR Keepalive < :Keepalive)",
            "ExpressionAttributeNames": {"#d": "Date"},
            "ExpressionAttributeValues": values,
        }
        try:
            await self._database.call("UpdateItem", request)
        except ReflowError as err:
            if err.kind is not Kind.PRECONDITION:
                raise

    # Reading.

    async def runs(self, query: RunQuery) -> list[Run]:
        """Matching runs, newest first."""
        await self.flush()
        if query.id is not None:
            items = await self._by_id(query.id)
        elif query.since is not None:
            items = await self._since(query.since, rows.RUN)
        else:
            items = await self._scan(rows.RUN)
        found = [run for run in readable(items, rows.RUN, rows.run_of) if matches_run(run, query)]
        return sorted(found, key=lambda run: (run.start, run.id), reverse=True)[: query.limit]

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """Matching tasks, newest first; by ident, or image and command, only those that have ended."""
        await self.flush()
        items = [item for item in await self._task_items(query) if text_of(item, "Type") == rows.TASK]
        items = [item for item in items if matches_task(item, query)]
        items.sort(key=lambda item: (text_of(item, "StartTime"), text_of(item, "ID")), reverse=True)
        items = items[: query.limit]
        inspects = await self._inspects(items)

        def read(item: Item) -> Task:
            return rows.task_of(item, inspects.get(rows.inspect_digest(item)))

        return readable(items, rows.TASK, read)

    async def _task_items(self, query: TaskQuery) -> list[Item]:
        if query.id is not None:
            return await self._by_id(query.id)
        if query.run_id is not None:
            return await self._query("RunID-index", "RunID", str(query.run_id))
        if query.image_cmd_id is not None:
            return await self._ended("ImgCmdID", digest_text(query.image_cmd_id), query.limit)
        if query.ident is not None:
            return await self._ended("Ident", query.ident, query.limit)
        return await self._scan(rows.TASK)

    async def _ended(self, name: str, value: str, limit: int | None) -> list[Item]:
        """Whole rows of what an index of ended tasks has, newest end first."""
        try:
            keys = await self._query(f"{name}-SortEnd-index", name, value, limit)
        except ReflowError as err:
            if err.kind is not Kind.NOT_EXIST:
                raise
            keys = await self._query(f"{name}-index", name, value, limit)  # of tables of old versions
        ids = [item["ID"]["S"] for item in keys]
        return [item async for item in self._database.batch_get(self._table, ids)]

    async def _by_id(self, prefix: DigestPrefix) -> list[Item]:
        full = prefix.full
        if full is not None:
            key = {"ID": {"S": str(full)}}
            answer = await self._database.call(
                "GetItem", {"TableName": self._table, "Key": key, "ConsistentRead": True}
            )
            return [answer["Item"]] if answer.get("Item") else []
        marks: Item = {":id": {"S": f"sha256:{prefix}"}}
        if len(prefix.raw) < 4:
            return await self._scanned("begins_with(ID, :id)", marks, {})
        marks[":id4"] = {"S": prefix.raw[:4].hex()}
        request = {
            "TableName": self._table,
            "IndexName": "ID4-ID-index",
            "KeyConditionExpression": "ID4 = :id4 AND begins_with(ID, :id)",
            "ExpressionAttributeValues": marks,
        }
        return [item async for item in self._database.query(request)]

    async def _query(self, index: str, name: str, value: str, limit: int | None = None) -> list[Item]:
        request: Request = {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": "#n = :v",
            "ExpressionAttributeNames": {"#n": name},
            "ExpressionAttributeValues": {":v": {"S": value}},
            "ScanIndexForward": False,
        }
        if limit is not None:
            request["Limit"] = max(1, limit)
        return await first(self._database.query(request), limit)

    async def _since(self, since: datetime, kind: str) -> list[Item]:
        """Rows of a kind that were alive after a time: a query for each day until tomorrow, two at least."""
        since = since.astimezone(UTC) - _LIFE
        last = datetime.now(UTC) + _DAY
        count = (last.date() - since.date()).days + 1
        if count > _MOST_DAYS:
            return await self._scan(kind)
        days = [rows.day(since + number * _DAY) for number in range(max(count, 2))]  # for a clock behind ours
        found = await gather(lambda day: self._of_day(day, since, kind), days)
        return [item for items in found for item in items]

    async def _of_day(self, day: str, since: datetime, kind: str) -> list[Item]:
        request = {
            "TableName": self._table,
            "IndexName": "Date-Keepalive-index",
            "KeyConditionExpression": "#d = :day AND Keepalive >= :since",
            "FilterExpression": "#t = :type",
            "ExpressionAttributeNames": {"#d": "Date", "#t": "Type"},
            "ExpressionAttributeValues": {
                ":day": {"S": day},
                ":since": {"S": rows.stamp(since)},
                ":type": {"S": kind},
            },
        }
        return [item async for item in self._database.query(request)]

    async def _scan(self, kind: str) -> list[Item]:
        return await self._scanned("#t = :t", {":t": {"S": kind}}, {"#t": "Type"})

    async def _scanned(self, condition: str, marks: Item, names: Mapping[str, str]) -> list[Item]:
        request: Request = {
            "TableName": self._table,
            "FilterExpression": condition,
            "ExpressionAttributeValues": marks,
        }
        if names:
            request["ExpressionAttributeNames"] = names
        pages = self._database.scan(request, _SEGMENTS)
        return [item async for page in pages for item in page.get("Items", ())]

    async def _inspects(self, items: Sequence[Item]) -> dict[Digest | None, Mapping[str, Any] | None]:
        """Inspections of tasks, by their objects; those that cannot be read are left out."""
        wanted = {digest for item in items if (digest := rows.inspect_digest(item)) is not None}
        if not wanted:
            return {}
        objects = await self._repository.read_many(wanted)
        return {
            digest: rows.read_inspect(data)
            for digest, data in objects.items()
            if not isinstance(data, ReflowError)
        }

    # Machines.

    async def allocs(self, ids: Collection[Digest]) -> list[Alloc]:
        """Allocs by their rows' ids; unknown ones are left out."""
        return readable(await self._by_ids(ids), rows.ALLOC, rows.alloc_of)

    async def pools(self, ids: Collection[Digest]) -> list[Pool]:
        """Pools by their rows' ids; unknown ones are left out."""
        return readable(await self._by_ids(ids), rows.POOL, rows.pool_of)

    async def pools_since(self, since: datetime) -> list[Pool]:
        """Pools that were alive after a time."""
        return readable(await self._since(since, rows.POOL), rows.POOL, rows.pool_of)

    async def _by_ids(self, ids: Collection[Digest]) -> list[Item]:
        texts = sorted({str(id) for id in ids})
        return [item async for item in self._database.batch_get(self._table, texts)]


if TYPE_CHECKING:
    _: type[TaskDB] = DynamoTaskDB
    _clusters: type[Clusters] = DynamoTaskDB
    _keeper: type[ObjectKeeper] = DynamoTaskDB
