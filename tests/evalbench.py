"""An evaluator over in-memory storage and execs, and small graphs for it."""

from __future__ import annotations

from typing import Any

from reflow.core.errors import Kind, ReflowError
from reflow.core.resources import Resources
from reflow.eval import EvalConfig, Outcome
from reflow.eval.evaluator import Evaluator
from reflow.flow.node import Flow
from tests.fakes import (
    BIG_MACHINE,
    CountingAssoc,
    CountingRepository,
    MemoryScheduler,
    RecordingReport,
    Shell,
    an_exec,
    output,
)


class Bench:
    """One repository and assoc, and a fresh evaluator, shell and report for each run."""

    def __init__(self) -> None:
        self.repository = CountingRepository()
        self.assoc = CountingAssoc()
        self.shell = Shell(self.repository)
        self.report = RecordingReport()
        self.scheduler: Any = MemoryScheduler(self.shell)
        self.evaluator = self.fresh()

    def fresh(self, resources: Resources = BIG_MACHINE, **options: Any) -> Evaluator:
        """A new evaluator with a new report and a new log of what ran."""
        self.shell.ran, self.shell.ended = [], []
        self.report = RecordingReport()
        self.scheduler = options.pop("scheduler", None) or MemoryScheduler(self.shell, resources)
        options.setdefault("assoc", self.assoc)
        self.evaluator = Evaluator(
            EvalConfig(scheduler=self.scheduler, repository=self.repository, report=self.report, **options)
        )
        return self.evaluator

    async def run(self, root: Flow, *, is_saved: bool = True, **options: Any) -> Outcome:
        """Evaluate with a fresh evaluator, and finish its cache writes; some fail unless it ``is_saved``."""
        evaluator = self.fresh(**options)
        outcome = await evaluator.run(root)
        assert (await evaluator.drain() == []) is is_saved
        assert evaluator.stats.running == evaluator.stats.waiting == 0
        return outcome


def pipeline() -> Flow:
    """a -> b, a -> c, (b, c) -> d."""
    a = output(an_exec("a"))
    return output(an_exec("d", output(an_exec("b", a)), output(an_exec("c", a))))


def failed(kind: Kind = Kind.DOCKER_EXEC) -> ReflowError:
    return ReflowError(kind, "exec", cause="exited with code 3")
