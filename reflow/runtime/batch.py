"""A batch: many runs of one program, in one process that shares all that can be shared.

Runs share the modules, the stores, the executor and the scheduler; each has a state, a log and rows in the
record of its own. At most so many are under way at a time, and only those have files open and graphs in
memory. Runs that are done are not done again: a batch that was interrupted goes on where it was.
Source: batch/batch.go.
"""

from __future__ import annotations

import asyncio
import copy
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, ReflowError
from reflow.flow.data import LocalFile
from reflow.lang.flags import UsageError as ParameterError
from reflow.lang.program import Program, flag_names, load
from reflow.runtime.batchfile import (
    BatchError,
    BatchFiles,
    BatchRow,
    batch_id,
    parse_runs,
    read_config,
    read_runs,
)
from reflow.runtime.batchsession import SharedSession
from reflow.runtime.batchstate import BatchEntry, BatchLock, read_entries, write_entries
from reflow.runtime.config import Config
from reflow.runtime.explain import explain_database
from reflow.runtime.home import runs_dir
from reflow.runtime.localcluster import LocalCluster
from reflow.runtime.log import ERROR, LEVELS, Log, RunLog
from reflow.runtime.membership import Membership
from reflow.runtime.outcome import RunOutcome, as_set_up_error
from reflow.runtime.request import RunRequest
from reflow.runtime.runner import Runner
from reflow.runtime.runstate import Phase, RunFiles, StateFile
from reflow.runtime.status import Row, Status
from reflow.runtime.stores import Stores

if TYPE_CHECKING:
    from reflow.lang.module_store import ModuleStore

TICK_S = 5.0
SAVE_INTERVAL_S = 30.0


class BatchRequest:
    """What is asked for: which batch, how to evaluate its runs, and which of them.

    ``run`` is what all runs have in common; its words come after the parameters of each row. No ``ids`` means
    all. ``wants_reset`` forgets what is known of earlier runs, ``wants_retry`` only of those that failed.
    """

    def __init__(self, config_path: str, run: RunRequest) -> None:
        self.files = BatchFiles(config_path)
        self.run = run
        self.parallelism = 50
        self.ids: frozenset[str] = frozenset()
        self.wants_reset = False
        self.wants_retry = False


class BatchTally(NamedTuple):
    """How many runs are done, how many have failed, and how many are left because of an interruption."""

    done: int
    failed: int
    left: int


class Batch:
    """Does a batch. `open`, then `run` once, then `close`.

    ``explain`` makes the text that the log of a failed run ends with.
    """

    def __init__(
        self,
        config: Config,
        log: Log,
        status: Status,
        request: BatchRequest,
        explain: Callable[[RunOutcome], str],
        store: ModuleStore | None = None,
    ) -> None:
        self._config = config
        self._log = log
        self._request = request
        self._files = request.files
        self._explain = explain
        self._session = SharedSession(log, store)
        self._explained = explain_database()
        self._group = status.group(f"batch {os.getcwd()}")
        self._rows: dict[BatchEntry, Row] = {}
        self._runners: dict[BatchEntry, Runner] = {}
        self._entries: dict[str, BatchEntry] = {}
        self._flags: frozenset[str] = frozenset()
        self._id = Digest(bytes(32))
        self._lock: BatchLock | None = None
        self._stores: Stores | None = None
        self._cluster: LocalCluster | None = None
        self._choosing = asyncio.Lock()
        self._pending: deque[BatchEntry] = deque()
        self._done = self._failed = 0
        self._is_stopping = False
        self._saved_s = 0.0
        self._is_changed = False
        self._is_open = False

    # Before the runs.

    def open(self) -> None:
        """Read the batch and what is known of it. Raises BatchError, OSError, or the program's errors."""
        config = read_config(self._files)
        text = read_runs(self._files, config)
        rows = parse_runs(text)
        self._check_ids(row.id for row in rows)
        self._lock = BatchLock(self._files.state)
        self._id = batch_id(config, text)
        program = self._files.path(config.program)
        self._log.info(f"batch program {config.program} runsfile {config.runs_file}")
        self._flags = flag_names(program, self._session)
        sources = _sources(self._session)
        known = {} if self._request.wants_reset else read_entries(f"{self._files.state}.json")
        for row in rows:
            fresh = BatchEntry(row.id, program, row.params, self._request.run.args, Digest.random(), sources)
            self._entries[row.id] = self._continued(fresh, known.get(row.id))
        self._is_open = True
        self._save()

    def _check_ids(self, ids: Iterable[str]) -> None:
        unknown = sorted(self._request.ids - set(ids))
        if unknown:
            raise BatchError(f"-ids: no row has the id {', '.join(unknown)}")

    def _continued(self, fresh: BatchEntry, known: BatchEntry | None) -> BatchEntry:
        """What is known of a run if that still counts; else the run anew."""
        if known is None:
            return fresh
        known.read_own_state()
        if not self._is_chosen(known):
            return known
        if not known.has_begun:
            fresh.run_id, fresh.state.id = known.run_id, known.run_id
            return fresh
        if not known.is_settled:
            return fresh
        if not known.is_same(fresh):
            self._log.info(f"run {fresh.id}: its parameters or the program changed; it is done again")
            return fresh
        if known.state.error is not None and self._request.wants_retry:
            self._log.info(f"retrying run {fresh.id}")
            return fresh
        known.sources = fresh.sources
        return known

    def _save(self) -> None:
        """Write the list of runs; a full disk is no reason to stop what runs."""
        self._saved_s, self._is_changed = time.monotonic(), False
        try:
            write_entries(self._files.state, self._id, self._entries)
        except OSError as err:
            self._log.error(f"the state of the batch cannot be saved: {err}")

    def close(self) -> None:
        """Let others do the batch."""
        if self._is_open:
            self._save()
        if self._lock is not None:
            self._lock.close()

    # The runs.

    async def run(self) -> BatchTally:
        """Do all runs that are to be done. Raises what keeps all of them from being done.

        When this is cancelled, what runs is killed, and the tally says what is left.
        """
        os.makedirs(runs_dir(), exist_ok=True)
        chosen = [entry for entry in self._entries.values() if self._is_chosen(entry)]
        self._pending.extend([entry for entry in chosen if not entry.is_settled])
        for entry in chosen:
            if entry.is_settled:
                self._tell_end(entry)
        try:
            await self._run_pending()
        except asyncio.CancelledError:
            _uncancel()
            self._is_stopping = True
        finally:
            await self._close_stores()
        return BatchTally(self._done, self._failed, len(chosen) - self._done - self._failed)

    def _is_chosen(self, entry: BatchEntry) -> bool:
        return not self._request.ids or entry.id in self._request.ids

    async def _run_pending(self) -> None:
        count = min(self._request.parallelism, len(self._pending))
        if not count:
            return
        async with asyncio.TaskGroup() as group:
            ticker = group.create_task(self._tick())
            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(count):
                        workers.create_task(self._work())
            finally:
                ticker.cancel()

    async def _work(self) -> None:
        """Do one run after the other."""
        while self._pending and not self._is_stopping:
            entry = self._pending.popleft()
            await self._do(entry)
            if not entry.is_settled:
                self._is_stopping = True
                return
            self._tell_end(entry)

    def _tell_end(self, entry: BatchEntry) -> None:
        state = entry.state
        if state.error is None:
            self._done += 1
            self._log.info(f"run {entry.id}: done: {state.result}")
        else:
            self._failed += 1
            self._log.error(f"run {entry.id}: error: {state.error.text(': ')}")

    async def _do(self, entry: BatchEntry) -> None:
        """Do one run; how it ended is in its state."""
        log = Log(LEVELS["off"], _discard)
        files = self._session.enter(log)
        row = self._rows[entry] = self._group.row(entry.run_id.short, "loading")
        try:
            program = self._load(entry, log)
            if program is not None:
                await self._evaluate(entry, program, log, files)
        except (ReflowError, OSError) as err:
            self._settle(entry, as_set_up_error(err))
        finally:
            self._is_changed = True
            self._runners.pop(entry, None)
            self._rows.pop(entry, None)
            self._group.drop(row)  # a line tells how it ended

    def _load(self, entry: BatchEntry, log: Log) -> Program | None:
        """Make the program with the run's parameters; None when the run has ended with that."""
        run_log = log.run_log = RunLog(self._files.log(entry.id), mode=0o600)
        try:
            program = self._made(entry)
            if not program.is_immediate:
                return program
            self._settle(entry, None, program.text(program.main))
        except (ProgramError, ParameterError, ReflowError) as err:
            is_parameter = isinstance(err, ParameterError)
            error = ReflowError(Kind.OTHER, cause=err) if is_parameter else as_set_up_error(err)
            log.message(ERROR, str(error))
            self._settle(entry, error)
        finally:
            log.run_log = None
            run_log.close()
        return None

    def _made(self, entry: BatchEntry) -> Program:
        """Raises what is wrong with the program, or with the run's parameters."""
        for name in entry.params:
            if name not in self._flags:
                raise ReflowError(Kind.OTHER, cause=f"non-existent flag {name}")
        words = [f"-{name}={text}" for name, text in entry.params.items()]
        return load(entry.program, [*words, *entry.argv], self._session, make_absolute=False)

    def _settle(self, entry: BatchEntry, error: ReflowError | None, result: str = "") -> None:
        """Save how a run ended that was not evaluated."""
        state = entry.state
        state.created = state.completion = datetime.now(UTC)
        state.phase, state.error, state.result = Phase.DONE, error, result
        try:
            file = StateFile(RunFiles.of(runs_dir(), entry.run_id))
            file.save(state)
            file.close()
        except OSError as err:
            self._log.error(f"the state of run {entry.id} cannot be saved: {err}")

    async def _evaluate(
        self, entry: BatchEntry, program: Program, log: Log, files: dict[LocalFile, None]
    ) -> None:
        stores, cluster = await self._shared()
        request = copy.copy(self._request.run)
        request.path, request.args = entry.program, entry.argv
        member = Membership(entry.state, stores, cluster, self._explained, self._files.log(entry.id))
        runner = self._runners[entry] = Runner(
            self._config, log, Status(), request, program, lambda: list(files), self._explain, member
        )
        self._show(entry)
        await runner.run()

    def _local_files(self) -> list[Any]:
        return self._session.local_files

    async def _shared(self) -> tuple[Stores, LocalCluster]:
        """What all runs share; opened for the first that needs it. Raises ReflowError."""
        async with self._choosing:
            if self._stores is None or self._cluster is None:
                self._stores, self._cluster = await self._open_shared()
        return self._stores, self._cluster

    async def _open_shared(self) -> tuple[Stores, LocalCluster]:
        request = self._request.run
        stores = Stores(self._config, self._local_files, checks_contents=request.checks_inputs)
        cluster = LocalCluster(self._config, request, stores, self._log)
        try:
            await stores.open()
            await cluster.choose(self._session.images())
        except ReflowError as err:
            raise BatchError(str(err)) from err
        return stores, cluster

    async def _close_stores(self) -> None:
        if self._cluster is not None:
            await self._cluster.close(kill=self._is_stopping)
        if self._stores is not None:
            await self._stores.close()
        self._explained.close()

    def kill_now(self) -> None:
        """End what runs without waiting for it: for a second signal."""
        if self._cluster is not None:
            self._cluster.kill_now()

    # What is shown while it runs.

    async def _tick(self) -> None:
        while True:
            self._group.show(f"remaining: {len(self._pending) + len(self._runners)}")
            for entry in self._runners:
                self._show(entry)
            if self._is_changed and time.monotonic() - self._saved_s > SAVE_INTERVAL_S:
                self._save()
            await asyncio.sleep(TICK_S)

    def _show(self, entry: BatchEntry) -> None:
        row, runner = self._rows.get(entry), self._runners.get(entry)
        if row is not None and runner is not None:
            self._group.update(row, f"{entry.id}: {entry.state} {runner.progress}".rstrip())

    def counters(self) -> dict[str, Any]:
        """Figures for those who look at the process while it runs."""
        return {
            "batch": {"Done": self._done, "Failed": self._failed, "Waiting": len(self._pending)},
            "runs": {entry.id: runner.counters() for entry, runner in list(self._runners.items())},
        }


def _sources(session: SharedSession) -> Digest:
    """Names the texts of all modules of a program."""
    parts = []
    for path in sorted(session.sources):
        parts.append(Digest.of_text(path) + Digest.of(session.sources[path]))
    return Digest.of(b"".join(parts))


def _discard(text: str) -> None:
    """The console is for the batch: what a run has to say is in its log."""


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


__all__ = ["Batch", "BatchRequest", "BatchRow", "BatchTally"]
