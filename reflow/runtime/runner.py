"""One run: from a loaded program to its result, its files and its rows.

The phases are those of the original: evaluate, and after an error that may go away evaluate again, three
times in all and at least a minute apart. Source: runner/runner.go, (*Runner).Do; runtime/runner.go.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reflow.core.assertion import AssertionKey, Assertions
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, ReflowError, is_restartable, kind_of
from reflow.core.units import format_duration, format_size
from reflow.disk.filesystem import disk_space
from reflow.eval import CacheMode, EvalConfig, EvalStats, Outcome
from reflow.eval.dot import dot_text
from reflow.eval.evaluator import Evaluator
from reflow.repository.place import Placer
from reflow.runtime.config import Config, ConfigError, not_supported
from reflow.runtime.home import runs_dir
from reflow.runtime.localcluster import LocalCluster
from reflow.runtime.log import INFO, Log, RunLog
from reflow.runtime.record import LIFE, Record
from reflow.runtime.report import Failure, RunReport
from reflow.runtime.request import RunRequest
from reflow.runtime.result import result_entries
from reflow.runtime.runstate import Phase, RunFiles, RunState, StateFile
from reflow.runtime.status import Status, elapsed_text
from reflow.runtime.stores import Stores
from reflow.runtime.trace import RUN_PROCESS, Trace
from reflow.taskdb import Run
from reflow.version import version_text

if TYPE_CHECKING:
    from reflow.flow.data import LocalFile
    from reflow.lang.program import Program

MAX_ATTEMPTS = 3
RETRY_INTERVAL_S = 60.0
TICK_S = 10.0
KEEPALIVE_TICKS = 9
DISK_TICKS = 6
DRAIN_AFTER_CANCEL_S = 10.0
LOW_DISK_SHARE = 0.05
EXIT_FAILED, EXIT_RESTARTABLE, EXIT_EVAL = 1, 10, 11
CACHE_MODES = {
    "off": CacheMode.OFF,
    "read": CacheMode.READ,
    "write": CacheMode.WRITE,
    "readwrite": CacheMode.READWRITE,
}


def exit_status(error: BaseException | None) -> int:
    """The exit status for the error of a run."""
    if error is None:
        return 0
    if isinstance(error, ProgramError) or kind_of(error) is Kind.EVAL:
        return EXIT_EVAL
    return EXIT_RESTARTABLE if is_restartable(error) else EXIT_FAILED


class RunOutcome:
    """How a run ended. ``value`` is the result, ``text`` what is printed of it, ``failures`` what failed."""

    def __init__(self, id: Digest, text: str, value: Any, error: BaseException | None) -> None:
        self.id = id
        self.text = text
        self.value = value
        self.error = error
        self.stats = EvalStats()
        self.failures: Sequence[Failure] = ()


class Runner:
    """Does one run. Use `run` once.

    ``local_files`` answers with the local inputs that the program has met so far, ``explain`` makes the text
    that is logged when the run fails.
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
    ) -> None:
        self.id = Digest.random()
        self._config = config
        self._log = log
        self._status = status
        self._group = status.group(self.id.short)
        self._request = request
        self._explain = explain
        self._program = program
        self._state = RunState(self.id, program.path, program.params, program.args)
        self._files = RunFiles.of(runs_dir(), self.id)
        self._stores = Stores(config, local_files, checks_contents=request.checks_inputs)
        self._cluster = LocalCluster(config, request, self._stores, log)
        self._placer = Placer(self._stores.state, lambda digest: self._stores.inputs.locate(digest)[0])
        self._outcome = RunOutcome(self.id, "", None, None)
        self._evaluator: Evaluator | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._warned: set[str] = set()
        self._trace = Trace(self._files.trace) if _wants_trace(config) else None
        self._ticks = 0
        self._started_s = time.monotonic()

    async def run(self) -> RunOutcome:
        """Evaluate the program; errors are in the outcome. Raises OSError when no files can be written.

        When this is cancelled, what runs is killed, and the outcome says so.
        """
        os.makedirs(os.path.dirname(self._files.base), exist_ok=True)
        self._log.info("reflow runtime: ===== started =====")
        state_file = StateFile(self._files)
        run_log = self._log.run_log = RunLog(self._files.log)
        try:
            await self._do(state_file)
        finally:
            self._log.run_log = None
            run_log.close()
            state_file.close()
            self._status.remove(self._group)
        return self._outcome

    async def _do(self, state_file: StateFile) -> None:
        """All phases, and what follows whatever came of them."""
        self._state.created = datetime.now(UTC)
        record = Record(self._stores.taskdb, self._log, self._run_row(), self._cluster.local_dir)
        self._beat(record)
        try:
            self._announce()
            if self._request.out:
                self._placer.check_target(self._request.out)
            await self._cluster.choose(self._program.images)
            record.begin(self._cluster.executor_name)
            await self._hash_inputs()
            await self._phases(state_file, record)
            await self._place_result()
        except asyncio.CancelledError:
            _uncancel()
            self._fail(ReflowError(Kind.CANCELED, cause="interrupted"))
        except (ReflowError, ConfigError, ProgramError) as err:
            self._fail(err)
        state_file.save(self._state)
        await self._finish(record)

    def kill_now(self) -> None:
        """End what runs without waiting for it: for a second signal."""
        self._cluster.kill_now()

    # Before the evaluation.

    def _run_row(self) -> Run:
        return Run(
            id=self.id,
            user=self._config.user,
            program=self._program.path,
            args=[f"-{name}={text}" for name, text in self._program.params.items()],
            start=datetime.now(UTC),
            keepalive=datetime.now(UTC) + LIFE,
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
        row = self._group.row("inputs", "hashing")

        def progress(files: int, all_files: int, size: int, all_size: int) -> None:
            text = f"hashing {files} of {all_files} files, {format_size(size)} of {format_size(all_size)}"
            self._group.update(row, text)

        count = await self._stores.inputs.hash_known(progress)
        self._group.done(row, f"hashed {count} files")
        trouble = self._stores.inputs.trouble
        if trouble is not None:
            self._log.info(f"digests of inputs are not remembered: {trouble}")

    # The phases.

    async def _phases(self, state_file: StateFile, record: Record) -> None:
        state = self._state
        while state.phase is not Phase.DONE:
            state_file.save(state)
            match state.phase:
                case Phase.INIT:
                    state.phase = Phase.EVAL
                case Phase.EVAL:
                    state.last_try = datetime.now(UTC)
                    self._judge(await self._evaluate(record))
                case Phase.RETRY:
                    await self._wait_for_retry()
        self._outcome.error = state.error
        self._outcome.text = state.result

    def _judge(self, outcome: Outcome) -> None:
        """Decide what follows an evaluation."""
        state, error = self._state, outcome.error
        if error is None:
            state.result = self._program.text(outcome.value)
            state.completion = datetime.now(UTC)
            state.phase = Phase.DONE
            self._outcome.value = outcome.value
            return
        error = _as_run_error(error)
        state.error = error
        if is_restartable(error):
            self._log.error(f"marking run for retry after restartable error {error}")
            state.phase = Phase.RETRY
        else:
            self._log.info(f"marking run done after nonrecoverable error {error}")
            state.phase = Phase.DONE

    async def _wait_for_retry(self) -> None:
        state = self._state
        state.attempt += 1
        if state.attempt >= MAX_ATTEMPTS:
            state.phase = Phase.DONE
            return
        self._log.info(f"runner state 'Retry': {state}")
        assert state.last_try is not None
        passed_s = (datetime.now(UTC) - state.last_try).total_seconds()
        await asyncio.sleep(max(0.0, RETRY_INTERVAL_S - passed_s))
        state.error = None
        state.phase = Phase.INIT

    async def _evaluate(self, record: Record) -> Outcome:
        request = self._request
        report = RunReport(
            self._log,
            record,
            self._group,
            self._trace,
            bottom_up=request.bottom_up,
            traces_flow=request.traces_flow,
        )
        evaluator = self._evaluator = Evaluator(self._eval_config(report))
        began_s = time.monotonic()
        epoch_s = time.time()
        try:
            outcome = await evaluator.run(self._program.main)
            summary = evaluator.summary.text(time.monotonic() - began_s)
            if summary:
                self._log.info(summary)
            return outcome
        finally:
            self._outcome.stats = evaluator.stats
            self._outcome.failures = list(report.failures.values())
            if self._trace is not None:
                words = [self._program.path, *self._program.args]
                self._trace.add("Run", " ".join(words), epoch_s, process=RUN_PROCESS)
                self._trace.write()

    def _eval_config(self, report: RunReport) -> EvalConfig:
        request, cluster = self._request, self._cluster
        matches = request.invalidate
        return EvalConfig(
            scheduler=cluster,
            repository=self._stores.repository,
            assoc=self._stores.assoc,
            report=report,
            cache=CACHE_MODES[self._config.cache],
            bottom_up=request.bottom_up,
            keep_going=request.keep_going,
            recompute_empty=request.recompute_empty,
            invalidate=None if matches is None else lambda flow: matches(flow.ident),
            resolve_image=cluster.resolve_image,
            key_namespace=cluster.key_namespace,
            current_assertions=_nothing_is_known if request.assert_policy == "exact" else None,
        )

    # After the evaluation.

    def _fail(self, error: Exception) -> None:
        """Note an error that ended the run outside the evaluation."""
        if isinstance(error, ProgramError):
            error = ReflowError(Kind.EVAL, cause=error)
        elif not isinstance(error, ReflowError):
            error = ReflowError(Kind.INVALID, cause=error)
        self._state.error = self._outcome.error = error
        self._state.result = self._outcome.text = ""
        self._state.phase = Phase.DONE

    async def _finish(self, record: Record) -> None:
        """Finish cache writes, write the graph and the record, and let go of everything."""
        was_canceled = kind_of(self._outcome.error) is Kind.CANCELED
        await self._cluster.close(kill=was_canceled)
        patience_s = DRAIN_AFTER_CANCEL_S if was_canceled else self._request.background_timeout_s
        if self._evaluator is not None:
            await self._drain(self._evaluator, patience_s)
        graph = self._write_graph()
        if self._outcome.error is None:
            self._log.to_run_log(INFO, f"result: {self._outcome.text}")
        else:
            self._log.error(self._explain(self._outcome))
        await self._close_record(record, graph)
        await self._stores.close()
        if self._timer is not None:
            self._timer.cancel()

    async def _drain(self, evaluator: Evaluator, patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s):
                await evaluator.drain()
        except TimeoutError:
            self._log.error(f"some cache writes still pending after timeout {format_duration(patience_s)}")
        except ReflowError as err:
            self._log.error(f"cache writes: {err}")

    def _write_graph(self) -> str:
        """Write the evaluation graph, unless it is not wanted; return its text."""
        if self._evaluator is None or not self._request.writes_graph:
            return ""
        text = dot_text(self.id, self._program.main, self._evaluator.continued())
        with open(self._files.graph, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
        return text

    async def _close_record(self, record: Record, graph: str) -> None:
        """Store log and graph as objects and write how the run ended."""
        digests: list[Digest | None] = [None, None]
        if record.is_kept:
            objects = [_read(self._files.log)]
            if graph:
                objects.append(graph.encode("utf-8", "surrogateescape"))
            try:
                stored = await self._stores.repository.put_bytes_many(objects)
                digests[: len(stored)] = stored
            except ReflowError as err:
                self._log.error(f"the log of this run is not stored: {err}")
        error = self._outcome.error
        await record.end(self._outcome.text, "" if error is None else str(error), digests[0], digests[1])

    async def _place_result(self) -> None:
        """Place the result where -out says."""
        if self._outcome.error is not None or not self._request.out:
            return
        entries = result_entries(self._outcome.value, self._program.main_type)
        row = self._group.row("out", "placing the result")
        is_stopped = threading.Event()

        def progress(done: int, total: int) -> None:
            if is_stopped.is_set():
                raise ReflowError(Kind.CANCELED, "out", self._request.out)
            self._group.update(row, f"placing {format_size(done)} of {format_size(total)}")

        try:
            kept = await asyncio.to_thread(self._placer.place_tree, entries, self._request.out, progress)
        finally:
            is_stopped.set()
        self._group.done(row, "placed")
        if kept is not None:
            self._log.info(
                f"{self._request.out} was changed since it was placed; what was there is now {kept}"
            )

    # While it runs.

    def _beat(self, record: Record) -> None:
        """Every ten seconds: show how far it is; less often, say that it lives and look at the disk."""
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._beat, record)
        self._group.show(self._progress_text())
        if self._ticks % KEEPALIVE_TICKS == KEEPALIVE_TICKS - 1:
            record.keep_alive()
        if self._ticks % DISK_TICKS == 0:
            self._warn_of_full_disk()
        self._ticks += 1

    def _progress_text(self) -> str:
        parts = [f"elapsed: {elapsed_text(time.monotonic() - self._started_s)}"]
        if self._evaluator is not None:
            stats = self._evaluator.stats
            parts += [f"executing:{stats.running}"] if stats.running else []
            parts += [f"waiting:{stats.waiting}"] if stats.waiting else []
            parts.append(f"completed: {stats.completed}/{stats.total}")
        return ", ".join(parts)

    def _warn_of_full_disk(self) -> None:
        for path in (self._stores.repository.root, self._cluster.local_dir):
            free, total = disk_space(path)
            if total and free < LOW_DISK_SHARE * total and path not in self._warned:
                self._warned.add(path)
                share = f"{100 * free / total:.1f}% ({format_size(free)})"
                self._log.info(f"warning: only {share} of the disk of {path} is free; see reflow du")


def _as_run_error(error: BaseException) -> ReflowError:
    """The error that an evaluation is recorded with: what has no kind of its own is an evaluation error."""
    if isinstance(error, ReflowError) and kind_of(error) is not Kind.OTHER:
        return error
    return ReflowError(Kind.EVAL, cause=error)


def _wants_trace(config: Config) -> bool:
    provider = config.provider("tracer")
    if provider == "xray":
        raise not_supported("tracer: xray")
    return provider == "localtracer"


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


async def _nothing_is_known(key: AssertionKey) -> Assertions:
    """What the policy *exact* is told of things elsewhere, while no store elsewhere is supported."""
    raise ReflowError(Kind.NOT_SUPPORTED, "assert", key, cause="no store can tell what is true of this now")
