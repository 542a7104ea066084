"""``reflow run`` of a program that has something to compute."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import UsageError
from reflow.cli.outcome import failure_text, finish_run
from reflow.runtime.config import not_supported
from reflow.runtime.request import RunRequest

if TYPE_CHECKING:
    from reflow.flow.data import LocalFile
    from reflow.lang.program import Program

_GC_THRESHOLD = 50_000
_ASSERT_POLICIES = ("never", "exact")


def run_program(
    app: App,
    request: RunRequest,
    program: Program,
    local_files: Callable[[], Sequence[LocalFile]],
    started_s: float,
) -> int:
    """Make a run; return the exit status."""
    check_supported(app, request)
    return app.run_async(_run(app, request, program, local_files, started_s))


def check_supported(app: App, request: RunRequest) -> None:
    """Raise UsageError or ReflowError for what cannot be done (yet)."""
    if request.assert_policy not in _ASSERT_POLICIES:
        raise UsageError(f"unknown Assert policy {request.assert_policy}: want never or exact")
    if not request.is_local and app.config.provider("cluster") not in ("", "localcluster"):
        raise not_supported(f"cluster: {app.config.provider('cluster')} (use -local to run on this machine)")
    if app.config.provider("metrics") == "prometrics":
        raise not_supported("metrics: prometrics")


def get_ready() -> None:
    """Allow for many open files, and for many objects: a graph lives to the end, and is not worth a look."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 50)


async def _run(
    app: App,
    request: RunRequest,
    program: Program,
    local_files: Callable[[], Sequence[LocalFile]],
    started_s: float,
) -> int:
    from reflow.runtime.runner import Runner

    get_ready()
    display = app.start_display()
    runner = Runner(app.config, app.log, display.status, request, program, local_files, failure_text)
    app.interrupts.on_second(runner.kill_now)
    app.counters = runner.counters
    outcome = await runner.run()
    app.end_display()
    return finish_run(app, request, outcome, time.monotonic() - started_s)
