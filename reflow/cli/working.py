"""What runs here, as ``list``, ``kill`` and ``shell`` look for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflow.cli.app import App

if TYPE_CHECKING:
    from reflow.runtime.livework import LiveRun


async def work_here(app: App) -> tuple[list[LiveRun], list[str]]:
    """Live runs of this machine, and the local directories that may hold execs."""
    from reflow.runtime.livework import live_runs, local_dirs
    from reflow.runtime.wiring import has_taskdb, open_taskdb

    taskdb = open_taskdb(app.config) if has_taskdb(app.config) else None
    live: list[LiveRun] = []
    if taskdb is not None:
        try:
            live = await live_runs(taskdb)
        finally:
            await taskdb.close()
    return live, local_dirs(app.config, live)
