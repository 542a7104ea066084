"""Evaluates a graph: empties the work-list's lists with look-ups, transfers and execs.

Everything runs on one event loop. Tasks exist for look-up batches, hashing, storing, snapshots and what
was submitted to the scheduler; results go back into the work-list, which says what is next. Failures
travel as values: after one, no new work starts, what runs is finished and cached (with ``keep_going``,
everything that does not depend on the failure is done as well).
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecInspect
from reflow.core.fileset import File, Fileset
from reflow.eval import EvalConfig, EvalStats, Outcome
from reflow.eval.assertions import Witness
from reflow.eval.attempt import build_config, is_too_large, missing_outputs
from reflow.eval.cache import CacheReader
from reflow.eval.cell import Cell, When
from reflow.eval.explain import Decisions, Execution, Miss, Verdict, WouldRunError
from reflow.eval.hashing import Hashing
from reflow.eval.imagename import ImageNames
from reflow.eval.lookup import Ledger, LookUps, open_cache
from reflow.eval.noderun import NodeRun, World
from reflow.eval.origin import Origins
from reflow.eval.summary import Summary
from reflow.eval.worklist import WorkList
from reflow.flow.data import LocalFile
from reflow.flow.digest import cache_keys, digest
from reflow.flow.node import Data, Exec, Extern, External, Flow, Intern

Work = Callable[..., Awaitable[None]]

STEPS_PER_TURN = 500
LOOK_UP_BATCH = 2000
STORE_BATCH = 500
HOLD_S = 0.1
"""How long submissions wait for look-ups and local work, so that the scheduler sees the widest set."""

MAX_SUBMITTED = 1024
"""Tasks that the scheduler is given at a time; enough to choose from, and the rest costs no memory."""


class Evaluator:
    """One evaluation. Use `run` once, then `drain`.

    ``summary`` has what the table at the end needs, `continued` what the graph file needs, ``decisions``
    what was executed and why.
    """

    def __init__(self, config: EvalConfig) -> None:
        self.stats = EvalStats()
        self.summary = Summary()
        self.decisions = Decisions()
        self._config = config
        self._report = config.report
        self._log = config.report.message
        self._witness = Witness(config.current_assertions)
        self._reader, self._writer = open_cache(config, self._witness)
        self._work = WorkList(self._when(), self._is_valid, self._log)
        self._work.rescues = config.is_repair
        self._work.keeps_files = config.keep_files is not None
        self._hashing = Hashing(self._work, config.hash_files, self._fail)
        self._world = World(
            config.scheduler, config.report, self.stats, self._witness, self._may_start, config.predict
        )
        self._images = ImageNames(config.resolve_image, self._log, config.images)
        self._origins = Origins()
        self._look_ups = None if self._reader is None else self._make_look_ups(self._reader)
        self._held: deque[Cell] = deque()
        self._held_since: float | None = None
        self._jobs: dict[asyncio.Task[None], NodeRun | None] = {}
        self._submitted = 0
        self._busy = 0
        self._wake = asyncio.Event()
        self._internal: ReflowError | None = None
        self._group: asyncio.TaskGroup | None = None

    def _make_look_ups(self, reader: CacheReader) -> LookUps:
        ledger = Ledger(self.stats, self.decisions, partial(self._settle, cached=True))
        return LookUps(self._config, self._work, self._images, ledger, reader, self._writer)

    def _when(self) -> When:
        if self._reader is None:
            return When.NEVER
        return When.BOTTOM_UP if self._config.bottom_up or self._config.is_repair else When.TOP_DOWN

    def _is_valid(self, node: Flow) -> bool:
        invalidate = self._config.invalidate
        if invalidate is None or not invalidate(node):
            return True
        self._log("debug", f"invalidated {node.ident or '?'} {digest(node).short}")
        self.decisions.missed(node, Miss(Verdict.INVALIDATED))
        return False

    async def run(self, root: Flow) -> Outcome:
        """Evaluate ``root``. Errors of the program and of execs are in the outcome, not raised.

        When this is cancelled, what runs is killed before it returns; `drain` may be awaited all the same.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            writes = None if self._writer is None else group.create_task(self._guard(self._writer.run))
            try:
                return await self._evaluate(root)
            finally:
                # What it writes just now `drain` writes again: who waits for that has a limit.
                if writes is not None:
                    writes.cancel()

    async def drain(self) -> list[str]:
        """Finish the cache writes; return what could not be written, one text each (all are logged)."""
        return [] if self._writer is None else await self._writer.drain()

    def continued(self) -> dict[Flow, Flow]:
        """Continuation -> the node that it returned, for those that ran."""
        return self._work.continued()

    def failed(self) -> list[tuple[Flow, BaseException]]:
        """Every node that failed, or could not be told in a dry run, with its error."""
        return self._work.failed()

    @property
    def pending_writes(self) -> int:
        """How many results are to be written to the cache yet."""
        return 0 if self._writer is None else self._writer.pending

    async def _evaluate(self, root: Flow) -> Outcome:
        self._work.demand(root)
        while True:
            self._work.step(STEPS_PER_TURN)
            if self._internal or (self._work.has_failed and not self._goes_on):
                self._stop()
            self._dispatch()
            if self._work.ready:
                await asyncio.sleep(0)
                continue
            if not self._jobs and not self._held:
                break
            await self._wait()
        outcome = self._work.outcome(root)
        if self._internal is not None:
            return Outcome(error=self._internal)
        assert outcome is not None, "evaluation is stuck"
        return outcome

    async def _wait(self) -> None:
        """Sleep until a job has ended, or held submissions have waited long enough."""
        if not self._held or self._held_since is None or self._submitted >= MAX_SUBMITTED:
            await self._wake.wait()
        else:
            patience_s = max(0.0, self._held_since + HOLD_S - time.monotonic())
            try:
                async with asyncio.timeout(patience_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    def _stop(self) -> None:
        """Start nothing more: forget what waits, cancel what has not begun."""
        if self._work.is_stopping:
            return
        work = self._work
        work.is_stopping = True
        self.stats.waiting -= len(self._held)
        for cell in self._held:
            self.decisions.ran(self._execution(cell.node))
        self._held.clear()
        for waiting in (work.to_look_up, work.to_hash, work.to_store, work.to_run):
            waiting.clear()
        for job, run in self._jobs.items():
            if run is None or not run.is_running:
                job.cancel()

    @property
    def _goes_on(self) -> bool:
        """Whether a failure ends only what depends on it."""
        return self._config.keep_going or self._config.is_dry or self._config.is_repair

    def _may_start(self) -> bool:
        return not self._work.is_stopping

    def _dispatch(self) -> None:
        """Turn what the work-list asks for into jobs."""
        work = self._work
        self.stats.total = work.external_count
        if self._hashing.begin():
            self._spawn_busy(self._hashing.run)
        while work.to_store:
            batch, work.to_store = work.to_store[:STORE_BATCH], work.to_store[STORE_BATCH:]
            self._spawn_busy(self._store, batch)
        # Look-ups wait until all that can be seen is seen, unless they are many already.
        while work.to_look_up and (not work.ready or len(work.to_look_up) >= LOOK_UP_BATCH):
            cells, work.to_look_up = work.to_look_up[:LOOK_UP_BATCH], work.to_look_up[LOOK_UP_BATCH:]
            assert self._look_ups is not None
            self._spawn_busy(self._look_ups.run, cells)
        self._hold(work.to_run)
        work.to_run = []
        if self._held and self._may_submit():
            self._submit()

    def _hold(self, cells: Iterable[Cell]) -> None:
        for cell in cells:
            node = cell.node
            if isinstance(node, Intern) and self._config.snapshot is not None and not node.must_intern:
                self._spawn_busy(self._snapshot, cell, node.url)
            else:
                self._enqueue(cell)

    def _enqueue(self, cell: Cell) -> None:
        if self._work.is_stopping:
            return
        self.stats.waiting += 1
        if self._seems_too_large(cell):
            self._held.appendleft(cell)  # the sooner it is refused the better
        else:
            self._held.append(cell)
        if self._held_since is None:
            self._held_since = time.monotonic()

    def _seems_too_large(self, cell: Cell) -> bool:
        """Whether a node will be refused; the scheduler decides, when it knows what is predicted for it."""
        return is_too_large(cell.node, self._config.scheduler.resources)

    def _may_submit(self) -> bool:
        if not self._busy and not self._work.ready:
            return True
        return self._held_since is not None and time.monotonic() - self._held_since >= HOLD_S

    def _submit(self) -> None:
        if self._config.is_dry:
            self._decline()
        while self._held and (self._submitted < MAX_SUBMITTED or self._seems_too_large(self._held[0])):
            cell = self._held.popleft()
            node = cell.node
            assert isinstance(node, External)
            run = NodeRun(self._world, node)
            self._submitted += 1
            self._spawn(run, self._run_cell, cell, run)
        if not self._held:
            self._held_since = None

    def _decline(self) -> None:
        """In a dry run: note what would be executed; what needs its value cannot be told."""
        while self._held:
            cell = self._held.popleft()
            self.stats.waiting -= 1
            node = cell.node
            self.decisions.ran(self._execution(node))
            self._work.fail(cell, WouldRunError(Kind.CANCELED, "dry run", node.ident or node.op))

    def _execution(self, node: Flow) -> Execution:
        """A node that is about to be executed, and why."""
        assert isinstance(node, External)
        values = self._work.values(node)
        assert values is not None, "its turn came too early"
        return Execution(node, values, self._miss(node), self._images.known(node))

    def _miss(self, node: Flow) -> Miss:
        if isinstance(node, Extern):
            return Miss(Verdict.NEVER_CACHED)
        if self._reader is None:
            return Miss(Verdict.CACHE_OFF)
        return self.decisions.miss_of(node) or Miss(Verdict.BELOW_EXTERN)

    def _spawn_busy(self, work: Work, *args: Any) -> None:
        """Run a look-up or local work; submissions wait for it a little."""
        self._busy += 1
        self._spawn(None, work, *args)

    def _spawn(self, run: NodeRun | None, work: Work, *args: Any) -> None:
        assert self._group is not None
        job = self._group.create_task(self._guard(work, *args))
        self._jobs[job] = run
        job.add_done_callback(self._job_ended)

    def _job_ended(self, job: asyncio.Task[None]) -> None:
        run = self._jobs.pop(job)
        if run is None:
            self._busy -= 1
        else:
            self._submitted -= 1
            run.leave()
        self._wake.set()

    def _fail(self, cell: Cell, error: BaseException) -> None:
        self._work.fail(cell, error)
        if not self._goes_on:
            # At once: before the scheduler starts something in the place of what has failed.
            self._stop()

    async def _guard(self, work: Work, *args: Any) -> None:
        """Turn an unexpected exception, which is a bug of ours, into the end of the evaluation."""
        try:
            await work(*args)
        except Exception as err:  # noqa: BLE001  (outermost of a job)
            self._log("error", "".join(traceback.format_exception(err)).rstrip())
            text = f"{type(err).__name__}: {err} (this is a bug of reflow; the log has the details)"
            self._internal = ReflowError(Kind.FATAL, "internal error", cause=text)
            self._stop()

    async def _store(self, cells: Sequence[Cell]) -> None:
        contents = [_content(cell.node) for cell in cells]
        try:
            stored = await self._stored(contents)
        except ReflowError as err:
            for cell in cells:
                self._fail(cell, err)
            return
        for cell, file in zip(cells, stored, strict=True):
            self._work.finish(cell, Fileset.of_file(file))

    async def _stored(self, contents: Sequence[bytes | LocalFile]) -> list[File]:
        """Files with these contents, which are stored unless nothing may be."""
        inline = [content for content in contents if isinstance(content, bytes)]
        files = [content for content in contents if not isinstance(content, bytes)]
        if self._config.is_dry:
            names = [Digest.of(content) for content in inline]
        else:
            if files and self._config.keep_files is not None:
                await self._config.keep_files(files)
            names = await self._config.repository.put_bytes_many(inline) if inline else []
        found = iter(names)
        return [
            File(next(found), len(content))
            if isinstance(content, bytes)
            else File(content.digest, content.size)
            for content in contents
        ]

    async def _snapshot(self, cell: Cell, url: str) -> None:
        assert self._config.snapshot is not None
        try:
            value = await self._config.snapshot(url)
        except ReflowError as err:
            self._log("info", f'must intern "{url}": resolve: {err}')
            self._enqueue(cell)
            return
        node = cell.node
        assert isinstance(node, Intern)
        self.decisions.ran(Execution(node, (), Miss(Verdict.REFERENCE), value=value))
        self._settle(cell, value)

    def _settle(
        self, cell: Cell, value: Fileset, *, cached: bool = False, inspect: ExecInspect | None = None
    ) -> bool:
        """An external node has a value; tell whether it may be kept."""
        self._count(cell, cached=cached, inspect=inspect)
        try:
            self._witness.add(digest(cell.node), value)
        except ReflowError as err:
            self._fail(cell, err)
            return False
        self._work.finish(cell, value)
        return True

    def _count(self, cell: Cell, *, cached: bool = False, inspect: ExecInspect | None = None) -> None:
        self.stats.completed += 1
        self.summary.add(cell.node.ident, cached=cached, inspect=inspect)

    async def _run_cell(self, cell: Cell, run: NodeRun) -> None:
        """Run a node to its end, retries included."""
        node = cell.node
        values = self._work.values(node)
        assert values is not None
        await self._images.learn((node,))
        execution = self._execution(node)
        keys = cache_keys(node, values, execution.image)
        try:
            arguments = self._origins.arguments(node, values)
            done = await run.to_end(build_config(node, arguments, execution.image), values, keys)
        except asyncio.CancelledError:
            self.decisions.ran(execution._replace(task=run.task, has_run=run.has_run))
            raise
        miss = Miss(Verdict.NOTED) if run.was_noted else execution.miss
        execution = execution._replace(task=run.task, has_run=run.has_run, miss=miss)
        self.decisions.ran(execution._replace(value=done.value, error=done.error))
        if done.error is not None:
            self._count(cell, inspect=done.inspect)
            self._fail(cell, done.error)
            return
        assert done.value is not None
        is_kept = self._settle(cell, done.value, cached=run.was_noted, inspect=done.inspect)
        if is_kept and self._writer is not None and not isinstance(node, Extern):
            lost = missing_outputs(node, done.value) if isinstance(node, Exec) else ""
            if lost:
                self._log("error", f"{node.ident or '?'} is not cached: {lost}")
            else:
                self._writer.add(node, keys, done.value)


def _content(node: Flow) -> bytes | LocalFile:
    assert isinstance(node, Data)
    return node.content
