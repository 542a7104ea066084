"""The phases of a run: evaluate, place the result, and after an error that may go away begin anew.

There are three attempts in all, at least a minute apart, but for objects that went away: then the next one
begins at once. Source: runner/runner.go, (*Runner).Do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reflow.core.errors import ReflowError, is_restartable
from reflow.eval import CacheMode, EvalStats, Outcome
from reflow.eval.evaluator import Evaluator
from reflow.eval.explain import Decisions, total_stats
from reflow.runtime.closing import drain
from reflow.runtime.config import Config
from reflow.runtime.evalconfig import CACHE_MODES, eval_config, foresight
from reflow.runtime.localcluster import LocalCluster
from reflow.runtime.log import Log
from reflow.runtime.outcome import RunOutcome, as_run_error, is_lost_object
from reflow.runtime.placing import ResultPlacer
from reflow.runtime.record import Record
from reflow.runtime.report import RunReport
from reflow.runtime.request import RunRequest
from reflow.runtime.runstate import Phase, RunState
from reflow.runtime.status import Group
from reflow.runtime.stores import Stores
from reflow.runtime.trace import RUN_PROCESS, Trace
from reflow.runtime.watch import Watch

if TYPE_CHECKING:
    from reflow.lang.program import Program

MAX_ATTEMPTS = 3
RETRY_INTERVAL_S = 60.0
_CACHE_WORDS = {"cacheread": CacheMode.READ, "cachewrite": CacheMode.WRITE}


class Phases:
    """Goes through the phases of one run; what came of it is in ``state`` and ``outcome``.

    ``evaluator`` is that of the last evaluation, ``decisions`` are those of all.
    """

    def __init__(
        self,
        config: Config,
        request: RunRequest,
        program: Program,
        stores: Stores,
        cluster: LocalCluster,
        state: RunState,
        outcome: RunOutcome,
        log: Log,
        group: Group,
        trace: Trace | None,
    ) -> None:
        self.placer = ResultPlacer(stores, request.out, checks_contents=request.checks_inputs)
        self.evaluator: Evaluator | None = None
        self.decisions: list[Decisions] = []
        self._config = config
        self._request = request
        self._program = program
        self._stores = stores
        self._cluster = cluster
        self._state = state
        self._outcome = outcome
        self._log = log
        self._group = group
        self._trace = trace
        self._may_wait = True

    @property
    def stats(self) -> EvalStats | None:
        """Counts of the evaluation that is under way, or was last."""
        return None if self.evaluator is None else self.evaluator.stats

    async def run(self, record: Record, watch: Watch, save: Callable[[], None]) -> None:
        """Go from wherever the state is to its end; ``save`` is called before each phase.

        Raises ReflowError when the result cannot be placed.
        """
        state = self._state
        while state.phase is not Phase.DONE:
            save()
            match state.phase:
                case Phase.INIT:
                    state.phase = Phase.EVAL
                case Phase.EVAL:
                    state.last_try = datetime.now(UTC)
                    self._judge(await self._placed(await self._evaluate(record, watch)))
                case Phase.RETRY:
                    await self._wait_for_retry()
        self._outcome.error = state.error
        self._outcome.text = state.result

    async def _placed(self, outcome: Outcome) -> Outcome:
        """The same, after its value was placed; or the loss of an object of it."""
        if outcome.error is None:
            try:
                await self.placer.place(outcome.value, self._program.main_type, self._group, self._log)
            except ReflowError as err:
                if not is_lost_object(err):
                    raise
                return Outcome(error=err)
        return outcome

    def _judge(self, outcome: Outcome) -> None:
        """Decide what follows an evaluation."""
        state, error = self._state, outcome.error
        if error is None:
            state.result = self._program.text(outcome.value)
            state.completion = datetime.now(UTC)
            state.phase = Phase.DONE
            self._outcome.value = outcome.value
            return
        error = as_run_error(error)
        state.error = error
        if is_lost_object(error):
            self._log.error(f"marking run for retry: an object went away while the run needed it: {error}")
            state.phase = Phase.RETRY
            self._may_wait = False
        elif is_restartable(error):
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
        if self.evaluator is not None:
            # What was computed is found when the evaluation begins anew.
            await drain(self.evaluator, self._request.background_timeout_s, self._group, self._log)
        self._log.info(f"runner state 'Retry': {state}")
        assert state.last_try is not None
        passed_s = (datetime.now(UTC) - state.last_try).total_seconds()
        if self._may_wait:
            await asyncio.sleep(max(0.0, RETRY_INTERVAL_S - passed_s))
        self._may_wait = True
        state.error = None
        state.phase = Phase.INIT

    async def _evaluate(self, record: Record, watch: Watch) -> Outcome:
        request = self._request
        report = RunReport(
            self._log,
            record,
            self._group,
            self._trace,
            bottom_up=request.bottom_up,
            traces_flow=request.traces_flow,
            estimate=watch.estimate,
        )
        evaluator = self.evaluator = Evaluator(
            eval_config(
                self._config,
                request,
                self._stores,
                self._cluster,
                report,
                self._program.images,
                None if self._trace is None else self._trace.span,
                foresight(self._config, request, self._stores, report),
            )
        )
        self.decisions.append(evaluator.decisions)
        self._log.info(self._configuration_text())
        began_s = time.monotonic()
        epoch_s = time.time()
        try:
            outcome = await evaluator.run(self._program.main)
            summary = evaluator.summary.text(time.monotonic() - began_s)
            if summary:
                self._log.info(summary)
            return outcome
        finally:
            self._outcome.stats = total_stats(evaluator.stats, self.decisions)
            self._outcome.failures = list(report.failures.values())
            if self._trace is not None:
                words = [self._program.path, *self._program.args]
                self._trace.add("Run", " ".join(words), epoch_s, process=RUN_PROCESS)

    def _configuration_text(self) -> str:
        """What decides how this run is evaluated, in one line."""
        mode = CACHE_MODES[self._config.cache] if self._stores.assoc is not None else CacheMode.OFF
        flags = [word for word, bit in _CACHE_WORDS.items() if bit in mode] or ["nocache"]
        flags.append("recomputeempty" if self._request.recompute_empty else "norecomputeempty")
        flags.append("bottomup" if self._request.bottom_up else "topdown")
        flags += ["postusechecksum"] if self._request.checks_inputs else []
        return (
            f"evaluating with configuration: executor {self._cluster.executor_name}"
            f" repository {self._stores.repository.url} assoc {self._config.provider('assoc') or 'none'}"
            f" flags {','.join(flags)}"
        )
