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


def test_progress_tells_what_was_cached_failed_and_is_left() -> None:
    stats = EvalStats(running=1, completed=9, total=10, cached=7, failed=1)
    made = make([], stats, [])
    assert made.progress_text() == "elapsed: 0s, executing:1, completed: 9/10, cached: 7, failed: 1"
    made.estimate.left_s = lambda: 130.0  # type: ignore[method-assign]
    assert made.progress_text().endswith("failed: 1, about 2m10s left")


async def test_the_heading_is_made_when_it_is_drawn() -> None:
    group = Status().group("x")
    stats = EvalStats(completed=1, total=4)
    made = watch.Watch(Log(INFO, lambda line: None), group, lambda: stats, [])
    made.start(Record(None, Log(0, lambda text: None), a_run(), "/l"))
    made.stop()
    stats.completed = 2
    assert group.ask is not None
    assert group.ask().endswith("completed: 2/4")


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
