"""A dry run: what would be executed, and why, without executing or writing anything.

The graph is evaluated as usual, on what the cache has. What would have to be executed has no value, so that
what depends on it is not known: whether it comes from the cache shows only when it is run.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import ReflowError
from reflow.eval import Outcome
from reflow.eval.evaluator import Evaluator
from reflow.eval.explain import Decisions, WouldRunError
from reflow.flow.node import K
from reflow.runtime.config import Config
from reflow.runtime.evalconfig import eval_config
from reflow.runtime.explain import SCHEMA, RunFacts, RunWriter, explain_database
from reflow.runtime.explainread import Reader
from reflow.runtime.localcluster import LocalCluster
from reflow.runtime.log import Log
from reflow.runtime.outcome import as_run_error
from reflow.runtime.quietreport import QuietReport
from reflow.runtime.reason import Reasons
from reflow.runtime.request import RunRequest
from reflow.runtime.stores import Stores

if TYPE_CHECKING:
    from reflow.flow.data import LocalFile
    from reflow.lang.program import Program

_T = TypeVar("_T")


class DryOutcome(NamedTuple):
    """What would happen.

    ``text`` is the result when nothing has to be executed, ``error`` that of the program. ``undecided`` are
    identifiers of what depends on the results of what would be executed.
    """

    decisions: Decisions
    text: str | None
    error: ReflowError | None
    undecided: Sequence[str]


class DryRun:
    """Does one dry run: `run`, then `with_reasons`."""

    def __init__(
        self,
        config: Config,
        log: Log,
        request: RunRequest,
        program: Program,
        local_files: Callable[[], Sequence[LocalFile]],
    ) -> None:
        self._config = config
        self._log = log
        self._request = request
        self._program = program
        self._local_files = local_files
        self._stores = Stores(config, local_files, checks_contents=False)
        self._cluster = LocalCluster(config, request, self._stores, log)

    async def run(self) -> DryOutcome:
        """Find out. Raises ReflowError when the stores or the executor cannot be used."""
        stores = self._stores
        try:
            if stores.assoc is not None:
                await stores.assoc.open()
            await self._cluster.choose(self._program.images)
            stores.write_nothing()
            await stores.inputs.hash_known()
            return await self._evaluate()
        finally:
            await self._cluster.close()
            await stores.close()

    async def _evaluate(self) -> DryOutcome:
        report = QuietReport(self._log)
        config = eval_config(
            self._config, self._request, self._stores, self._cluster, report, self._program.images
        )
        evaluator = Evaluator(replace(config, is_dry=True))
        outcome = await evaluator.run(self._program.main)
        failed, continued = evaluator.failed(), evaluator.continued()
        undecided = [
            node.ident
            for node, error in reversed(failed)
            if isinstance(error, WouldRunError) and isinstance(node, K) and node not in continued
        ]
        text, error = self._result(outcome, [error for _, error in failed])
        return DryOutcome(evaluator.decisions, text, error, list(dict.fromkeys(filter(None, undecided))))

    def _result(
        self, outcome: Outcome, errors: Sequence[BaseException]
    ) -> tuple[str | None, ReflowError | None]:
        real = [error for error in errors if not isinstance(error, WouldRunError)]
        if real:
            return None, as_run_error(real[0])
        if outcome.error is None:
            return self._program.text(outcome.value), None
        if isinstance(outcome.error, WouldRunError):
            return None, None
        return None, as_run_error(outcome.error)

    def with_reasons(self, outcome: DryOutcome, use: Callable[[Reasons], _T]) -> _T:
        """Call ``use`` with the reasons: as if the run was recorded, and then forgotten."""
        settings = {"executor": self._cluster.executor_name, "cache": self._config.cache}
        facts = RunFacts(Digest.random(), int(time.time() * 1e6), self._program.path, settings)
        writer = RunWriter(facts, [outcome.decisions], self._local_files())

        def work(connection: sqlite3.Connection) -> _T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                writer.write(connection)
                reader = Reader(connection)
                (recorded,) = reader.runs(DigestPrefix(facts.id))
                return use(Reasons(reader, recorded))
            finally:
                connection.execute("ROLLBACK")

        database = explain_database()
        try:
            return database.call(work)
        except ReflowError as err:
            self._log.error(f"what was recorded of earlier runs cannot be read: {err}")
            return work(_scratch())
        finally:
            database.close()


def _scratch() -> sqlite3.Connection:
    """An empty record, in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in SCHEMA.create:
        connection.execute(statement)
    return connection
