from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.eval import EvalStats
from reflow.runtime import watch
from reflow.runtime.log import INFO, Log
from reflow.runtime.record import Record
from reflow.runtime.status import Status
from reflow.taskdb import Run, RunQuery
from reflow.taskdb.memory import MemoryTaskDB

if TYPE_CHECKING:
    import pytest


def a_run() -> Run:
    return Run(id=Digest.of(b"run"), user="u", program="p", start=datetime.now(UTC))


def make(lines: list[str], stats: EvalStats | None, paths: list[str]) -> watch.Watch:
    return watch.Watch(Log(INFO, lines.append), Status().group("x"), lambda: stats, paths)


def test_progress_leaves_out_what_is_zero() -> None:
    assert make([], None, []).progress_text() == "elapsed: 0s"
    assert make([], EvalStats(completed=1, total=4), []).progress_text() == "elapsed: 0s, completed: 1/4"
    stats = EvalStats(running=2, waiting=3, completed=1, total=6)
    assert make([], stats, []).progress_text() == "elapsed: 0s, executing:2, waiting:3, completed: 1/6"


async def test_a_run_is_kept_alive_every_ninth_time() -> None:
    taskdb = MemoryTaskDB()
    run = a_run()
    record = Record(taskdb, Log(0, lambda text: None), run, "/l")
    record.begin("process")
    watching = make([], None, [])
    for _ in range(watch.KEEPALIVE_TICKS - 1):
        watching.start(record)
        watching.stop()
    assert (await taskdb.runs(RunQuery()))[0].keepalive is None
    watching.start(record)
    watching.stop()
    assert (await taskdb.runs(RunQuery()))[0].keepalive is not None


async def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "disk_space", lambda path: (2 << 30, 100 << 30))
    lines: list[str] = []
    watching = make(lines, None, [str(tmp_path)])
    record = Record(None, Log(0, lambda text: None), a_run(), "/l")
    for _ in range(2 * watch.DISK_TICKS):
        watching.start(record)
        watching.stop()
    assert lines == [
        f"reflow: warning: only 2.0% (2.0GiB) of the disk of {tmp_path} is free; see reflow du\n"
    ]
