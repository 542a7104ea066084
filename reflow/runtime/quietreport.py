"""The report of an evaluation that starts nothing: a dry run, a repair of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect
from reflow.core.fileset import Fileset
from reflow.eval import Report
from reflow.flow.node import External
from reflow.pool import Exec as RunningExec
from reflow.runtime.log import LEVELS, Log


class QuietReport:
    """Only passes messages on. Whoever has more to say of what ends or is found is a subclass."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def queued(self, flow: External, config: ExecConfig, attempt: int) -> None:
        """Nothing waits for long."""

    def progress(self, flow: External, what: str, done_bytes: int, total_bytes: int) -> None:
        """Nothing is fetched."""

    def started(
        self, flow: External, config: ExecConfig, attempt: int, task_id: Digest, running: RunningExec
    ) -> None:
        """Nothing starts."""

    def finished(
        self,
        flow: External,
        config: ExecConfig,
        task_id: Digest,
        value: Fileset | None,
        inspect: ExecInspect | None,
        error: ReflowError | None,
        keys: Sequence[Digest],
    ) -> None:
        """Nothing starts, and nothing ends."""

    def cached(self, flow: External, value: Fileset, key: Digest) -> None:
        """Counted elsewhere."""

    def message(self, level: str, text: str) -> None:
        """Log it."""
        self._log.message(LEVELS[level], text)


if TYPE_CHECKING:
    _: type[Report] = QuietReport
