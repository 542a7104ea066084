"""One run: from a loaded program to its result, its files and its rows.

Source: runtime/runner.go. The phases in between are in `reflow.runtime.phases`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, ReflowError, kind_of
from reflow.core.units import format_size
from reflow.eval import EvalStats
from reflow.runtime.closing import drain, write_file, write_graph
from reflow.runtime.config import Config, ConfigError, not_supported
from reflow.runtime.explain import RunFacts, record_run
from reflow.runtime.home import runs_dir
from reflow.runtime.localcluster import LocalCluster
from reflow.runtime.log import INFO, Log, RunLog
from reflow.runtime.membership import Membership
from reflow.runtime.outcome import RunOutcome, as_set_up_error
from reflow.runtime.phases import Phases
from reflow.runtime.record import LIFE, Record
from reflow.runtime.request import RunRequest
from reflow.runtime.runstate import Phase, RunFiles, RunState, StateFile
from reflow.runtime.status import Row, Status
from reflow.runtime.stores import Stores
from reflow.runtime.trace import Trace
from reflow.runtime.watch import Watch
from reflow.taskdb import Run
from reflow.version import version_text

if TYPE_CHECKING:
    from reflow.flow.data import LocalFile
    from reflow.lang.program import Program

DRAIN_AFTER_CANCEL_S = 10.0


class Runner:
    """Does one run. Use `run` once.

    ``local_files`` answers with the local inputs that the program has met so far, ``explain`` makes the text
    that is logged when the run fails. ``member`` is given for a run of a batch.
    """

    def __init__(
        self,
        config: Config,
        log: Log,
        status: Status,
        request: RunRequest,
        program: Program,
        local_files: Callable[[], Sequence[LocalFile]],
        explain: Callable[[RunOutcome], str],
        member: Membership | None = None,
    ) -> None:
        self._member = member
        self._state = (
            RunState(Digest.random(), program.path, program.params, program.args)
            if member is None
            else member.state
        )
        self.id = self._state.id
        self._config = config
        self._log = log
        self._status = status
        self._group = status.group(self.id.short)
        self._request = request
        self._explain = explain
        self._program = program
        self._files = RunFiles.of(runs_dir(), self.id)
        if member is None:
            self._stores = Stores(config, local_files, checks_contents=request.checks_inputs)
            self._cluster = LocalCluster(config, request, self._stores, log)
        else:
            self._stores, self._cluster = member.stores, member.cluster
        self._outcome = RunOutcome(self.id)
        self._local_files = local_files
        self._trace = Trace(self._files.trace) if _wants_trace(config) else None
        self._phases = Phases(
            config,
            request,
            program,
            self._stores,
            self._cluster,
            self._state,
            self._outcome,
            log,
            self._group,
            self._trace,
        )
        watched = (self._stores.repository.root, self._cluster.local_dir)
        self._watch = Watch(log, self._group, lambda: self._phases.stats, watched)

    async def run(self) -> RunOutcome:
        """Evaluate the program; errors are in the outcome. Raises OSError when no files can be written.

        When this is cancelled, what runs is killed, and the outcome says so.
        """
        os.makedirs(os.path.dirname(self._files.base), exist_ok=True)
        self._log.info("reflow runtime: ===== started =====")
        state_file = StateFile(self._files)
        member = self._member
        run_log = RunLog(self._files.log) if member is None else RunLog(member.log_path, mode=0o600)
        self._log.run_log = run_log
        try:
            await self._do(state_file)
        except BaseException:
            if member is None:
                self._cluster.kill_now()
            raise
        finally:
            self._log.run_log = None
            run_log.close()
            if run_log.trouble is not None:
                self._log.error(f"{run_log.path} is not complete: {run_log.trouble.strerror}")
            state_file.close()
            self._status.remove(self._group)
        return self._outcome

    async def _do(self, state_file: StateFile) -> None:
        """All phases, and what follows whatever came of them."""
        self._state.created = datetime.now(UTC)
        record = Record(self._stores.taskdb, self._log, self._run_row(), self._cluster.local_dir)
        self._watch.start(record)
        try:
            self._announce()
            if self._member is None:
                await self._stores.open()
                self._phases.placer.check()
                await self._cluster.choose(self._program.images)
            record.taskdb = self._stores.taskdb
            record.begin(self._cluster.executor_name, self._program.bundle)
            if self._member is None:
                await self._hash_inputs()
            await self._phases.run(record, self._watch, lambda: self._save(state_file))
        except asyncio.CancelledError:
            _uncancel()
            self._fail(ReflowError(Kind.CANCELED, cause="interrupted"))
        except (ReflowError, ConfigError, ProgramError) as err:
            self._fail(err)
        self._save(state_file)
        try:
            await self._finish(record)
        except asyncio.CancelledError:
            _uncancel()
            self._fail(ReflowError(Kind.CANCELED, cause="interrupted"))
            self._save(state_file)
            await self._finish(record)

    def _save(self, state_file: StateFile) -> None:
        """Save the state; a full disk is no reason to stop what runs."""
        try:
            state_file.save(self._state)
        except OSError as err:
            self._log.error(f"the state of this run cannot be saved: {err}")

    def counters(self) -> dict[str, Any]:
        """Figures for those who look at the process while it runs."""
        stats = self._phases.stats or EvalStats()
        return {
            "run": str(self.id),
            "scheduler": {"TotalTasks": stats.total, "Running": stats.running, "Waiting": stats.waiting},
            "execs": {"Executed": stats.executed, "Cached": stats.cached, "Failed": stats.failed},
        }

    @property
    def progress(self) -> str:
        """How far it is, in a few words."""
        return self._watch.progress_text()

    def kill_now(self) -> None:
        """End what runs without waiting for it: for a second signal."""
        self._cluster.kill_now()

    # Before the evaluation.

    def _run_row(self) -> Run:
        return Run(
            id=self.id,
            user=self._config.user,
            program=self._program.path,
            args=self._program.args,
            start=datetime.now(UTC),
            keepalive=datetime.now(UTC) + LIFE,
            labels=self._config.labels,
        )

    def _announce(self) -> None:
        state = self._state
        self._log.info(f"reflow version: {version_text()}")
        self._log.info(f"run ID: {self.id.short}")
        params = [f"\t\t{name}={state.params[name]}" for name in sorted(state.params)]
        arguments = [f"\t{word}" for word in state.args]
        lines = [f"evaluating program {state.program}"]
        lines += ["\tparams:", *params] if params else ["\t(no params)"]
        lines += ["\targuments:", *arguments] if arguments else ["\t(no arguments)"]
        self._log.info("\n".join(lines))
        if self._trace is not None:
            self._log.info(f"Trace: {self._trace.path}")

    async def _hash_inputs(self) -> None:
        rows: list[Row] = []

        def progress(files: int, all_files: int, size: int, all_size: int) -> None:
            text = f"hashing {files} of {all_files} files, {format_size(size)} of {format_size(all_size)}"
            if not rows:
                rows.append(self._group.row("inputs", text))
            self._group.update(rows[0], text, size / all_size if all_size else None)

        count = await self._stores.inputs.hash_known(progress)
        for row in rows:
            self._group.done(row, f"hashed {count} files")
        trouble = self._stores.inputs.trouble
        if trouble is not None:
            self._log.info(f"digests of inputs are not remembered: {trouble}")

    # After the evaluation.

    def _fail(self, error: Exception) -> None:
        """Note an error that ended the run outside the evaluation."""
        self._state.error = self._outcome.error = as_set_up_error(error)
        self._state.result = self._outcome.text = ""
        self._state.phase = Phase.DONE

    async def _finish(self, record: Record) -> None:
        """Finish cache writes, write the graph and the record, and let go of everything."""
        was_canceled = kind_of(self._outcome.error) is Kind.CANCELED
        if self._member is None:
            await self._cluster.close(kill=was_canceled, settles=False)
        patience_s = DRAIN_AFTER_CANCEL_S if was_canceled else self._request.background_timeout_s
        evaluator = self._phases.evaluator
        if evaluator is not None:
            await drain(evaluator, patience_s, self._group, self._log)
        if self._member is None:
            await self._cluster.settle()
        if self._trace is not None:
            write_file(self._trace.path, self._trace.content(), self._log)
        graph = b""
        if evaluator is not None:
            graph = await write_graph(
                self.id, self._program.main, evaluator, self._request, self._files, self._log
            )
        if self._outcome.error is None:
            self._log.to_run_log(INFO, f"result: {self._outcome.text}")
        else:
            self._log.error(self._explain(self._outcome))
        await self._close_record(record, graph)
        await self._record_decisions()
        if self._member is None:
            await self._stores.close()
        self._watch.stop()

    async def _record_decisions(self) -> None:
        """Keep what `reflow why` tells."""
        if not self._phases.decisions:
            return
        assert self._state.created is not None
        settings = {
            "executor": self._cluster.executor_name,
            "cache": self._config.cache if self._stores.assoc is not None else "off",
            "eval": "bottomup" if self._request.bottom_up else "topdown",
        }
        start_us = int(self._state.created.timestamp() * 1e6)
        facts = RunFacts(self.id, start_us, self._program.path, settings)
        try:
            shared = None if self._member is None else self._member.explained
            await record_run(facts, self._phases.decisions, self._local_files(), shared)
        except ReflowError as err:
            self._log.error(f"reflow why will miss this run: {err}")

    async def _close_record(self, record: Record, graph: bytes) -> None:
        """Store log and graph as objects and write how the run ended."""
        if not self._stores.is_open:
            return  # what kept it from that has been said
        digests: list[Digest | None] = [None, None]
        if record.is_kept:
            objects = [self._log.run_log.content()] if self._log.run_log is not None else []
            if graph:
                objects.append(graph)
            try:
                stored = await self._stores.repository.put_bytes_many(objects)
                digests[: len(stored)] = stored
            except ReflowError as err:
                self._log.error(f"the log of this run is not stored: {err}")
        error = self._outcome.error
        await record.end(self._outcome.text, "" if error is None else str(error), digests[0], digests[1])


def _wants_trace(config: Config) -> bool:
    provider = config.provider("tracer")
    if provider == "xray":
        raise not_supported("tracer: xray")
    return provider == "localtracer"


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
