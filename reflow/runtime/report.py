"""What people and records are told of an evaluation: log lines, status rows, rows of tasks.

Cached nodes cost next to nothing here: a run of thousands of them is the common case.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect
from reflow.core.fileset import Fileset
from reflow.core.units import format_size
from reflow.eval import Report
from reflow.eval import tasklines
from reflow.flow.digest import digest
from reflow.flow.node import Exec, Extern, Intern
from reflow.pool import Exec as RunningExec
from reflow.runtime.log import LEVELS, Log
from reflow.runtime.record import Record
from reflow.runtime.status import Group, Row

if TYPE_CHECKING:
    from reflow.taskdb import Task

External = Exec | Intern | Extern


class Failure(NamedTuple):
    """An exec, intern or extern that failed: what is shown of it at the end."""

    flow: External
    config: ExecConfig
    task_id: Digest
    error: ReflowError
    stderr: str


class RunReport:
    """Tells of one evaluation. ``failures`` are those that stood (an attempt that is retried is none)."""

    def __init__(self, log: Log, record: Record, group: Group, *, bottom_up: bool, traces_flow: bool) -> None:
        self.failures: dict[External, Failure] = {}
        self._log = log
        self._record = record
        self._group = group
        self._bottom_up = bottom_up
        self._traces_flow = traces_flow
        self._rows: dict[External, Row] = {}


"""placeholder"""
