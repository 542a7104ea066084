"""What is said of a task that gets ready before there is room for its command."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from reflow.core.digest import Digest
from reflow.core.execconfig import ExecConfig
from reflow.core.resources import Resources
from reflow.sched import Task, TaskOutcome
from reflow.sched.admission import Admission
from reflow.sched.local import LocalScheduler
from reflow.sched.rooms import Room, Rooms
from reflow.sched.telling import Tell, Telling
from tests.execs import OUT, Ground, command

Words = tuple[str, int, int]


class Waits(NamedTuple):
    """One that has the machine, another that waits for it, and what was said of that."""

    first: Room
    second: Room
    does: Telling
    told: list[Words]


@pytest.fixture
async def waits() -> Waits:
    rooms = Rooms(Admission(Resources(cpu=1.0)), lambda: 0.0, None)
    told: list[Words] = []
    telling = Telling(lambda *words: told.append(words))
    first, second = Room(rooms, "a", {"cpu": 1}, 0), Room(rooms, "b", {"cpu": 1}, 0, telling)
    await first.approach()
    await second.approach()
    return Waits(first, second, telling, told)


async def test_what_is_done_before_there_is_room_is_said_to_be_done_while_it_waits(waits: Waits) -> None:
    waits.does.does("copying inputs", 5, 10)
    assert waits.told == [("waiting, copying inputs", 5, 10)]
    waits.first.leave()
    assert waits.told[1:] == [("copying inputs", 5, 10)]
    waits.does.does("copying inputs", 10, 10)
    assert waits.told[2:] == [("copying inputs", 10, 10)]


async def test_who_is_ready_waits_and_then_starts(waits: Waits) -> None:
    waits.does.does("copying inputs", 5, 10)
    entering = asyncio.ensure_future(waits.second.enter())
    await asyncio.sleep(0)
    assert waits.told[1:] == [("waiting", 0, 0)]
    waits.first.leave()
    await entering
    assert waits.told[2:] == [("starting", 0, 0)]


async def test_who_gives_its_room_up_does_not_wait_for_it(waits: Waits) -> None:
    waits.second.leave()
    waits.does.does("waiting for another run of this exec", 0, 0)
    assert waits.told == [("waiting for another run of this exec", 0, 0)]
    entering = asyncio.ensure_future(waits.second.enter())
    await asyncio.sleep(0)
    assert waits.told[-1] == ("waiting", 0, 0)
    waits.first.leave()
    await entering


async def test_of_one_that_has_nothing_to_fetch_nothing_is_said(waits: Waits) -> None:
    entering = asyncio.ensure_future(waits.second.enter())
    await asyncio.sleep(0)
    waits.first.leave()
    await entering
    waits.second.leave()
    assert waits.told == []


async def test_an_exec_whose_inputs_are_copied_ahead_of_its_turn_waits(tmp_path: Path) -> None:
    """Its directory is on another device than the repository, so that inputs are copied."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        ground = Ground(tmp_path, "process", localdir=Path(elsewhere) / "local")
        await ground.executor.start()
        scheduler = LocalScheduler(ground.executor)
        whole = Resources(cpu=ground.executor.resources.amount("cpu"))
        go, told, is_ready = tmp_path / "go", list[Words](), asyncio.Event()

        def tell(what: str, done_bytes: int, total_bytes: int) -> None:
            told.append((what, done_bytes, total_bytes))
            if what == "waiting":
                is_ready.set()

        def run(config: ExecConfig, on_progress: Tell | None = None) -> asyncio.Task[TaskOutcome]:
            id = Digest.random()
            return asyncio.ensure_future(
                scheduler.run(Task(id=id, flow_id=id, config=config, on_progress=on_progress))
            )

        first = run(command(f"until test -e {go}; do sleep 0.02; done; echo > %s", OUT, resources=whole))
        data = await ground.object(b"x" * 100_000)
        second = run(command("cat %s > %s", data, OUT, resources=whole), tell)
        await asyncio.wait_for(is_ready.wait(), 60)
        assert [words[0] for words in told] == ["waiting, copying inputs", "waiting"]
        go.touch()
        await asyncio.gather(first, second)
        assert [words[0] for words in told[2:]] == ["starting"]
        await scheduler.close()
