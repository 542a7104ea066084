"""Execs and the room that their commands take: when they ask for it, and when they give it back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.execconfig import ExecConfig
from reflow.core.resources import Resources
from reflow.executor.localexec import LocalExec
from reflow.sched import Task, TaskOutcome
from reflow.sched.local import LocalScheduler
from tests.crash import crashed
from tests.execs import OUT, Door, Ground, command


async def value(running: LocalExec) -> str:
    await running.wait()
    result = await running.result()
    assert result.error is None
    return str(result.fileset)


async def test_all_is_ready_before_a_command_asks_for_room(ground: Ground, tmp_path: Path) -> None:
    door = Door(is_open=False)
    data = await ground.object(b"data")
    config = command(f"cp %s %s; touch {tmp_path}/ran", data, OUT)
    putting = asyncio.ensure_future(ground.executor.put(Digest.random(), config, None, door))
    await door.asked.wait()
    (name,) = ground.left()
    assert (ground.localdir / "execs" / name / "arg/0/0").read_bytes() == b"data"
    assert not (tmp_path / "ran").exists()
    assert not putting.done()
    door.opened.set()
    running = await putting
    await running.wait()
    assert (tmp_path / "ran").exists()
    assert door.done == ["ask", "enter", "leave"]


async def test_room_is_free_again_while_outputs_are_taken(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door()
    seen: list[list[str]] = []
    take = ground.executor._conclusion.result

    async def taken(*args: object) -> object:
        seen.append(list(door.done))
        return await take(*args)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(ground.executor._conclusion, "result", taken)
    running = await ground.executor.put(Digest.random(), command("echo x > %s", OUT), None, door)
    await running.wait()
    assert seen == [["ask", "enter", "leave"]]


async def test_a_command_that_fails_keeps_its_room_until_that_is_known(ground: Ground) -> None:
    door = Door()
    running = await ground.executor.put(Digest.random(), command("false"), None, door)
    await running.wait()
    assert (await running.result()).error is not None
    assert door.done == ["ask", "enter"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (command("true; : %s", OUT), "was not written by the command"),
        (command("mkdir %s", OUT), "was declared a file, and the command made a directory"),
        (
            command("rmdir %s; echo x > %s", OUT, OUT, dirs=(True,)),
            "was declared a directory, and the command made a file",
        ),
    ],
)
async def test_a_command_without_its_output_keeps_its_room_as_one_that_fails(
    ground: Ground, config: ExecConfig, said: str
) -> None:
    door = Door()
    running = await ground.executor.put(Digest.random(), config, None, door)
    await running.wait()
    assert said in str((await running.result()).error)
    assert door.done == ["ask", "enter"]


@pytest.mark.parametrize(
    "config",
    [
        command("echo x > $TMPDIR/x; ln -s $TMPDIR/x %s", OUT),
        command("mkdir $TMPDIR/x; rmdir %s; ln -s $TMPDIR/x %s", OUT, OUT, dirs=(True,)),
        command("rmdir %s", OUT, dirs=(True,)),
        command("true"),
    ],
)
async def test_outputs_that_are_links_or_need_not_be_there_hold_no_room(
    ground: Ground, config: ExecConfig
) -> None:
    door = Door()
    await value(await ground.executor.put(Digest.random(), config, None, door))
    assert door.done == ["ask", "enter", "leave"]


@pytest.mark.parametrize("cmd", ["false; : %s", "true; : %s"])
async def test_who_is_cancelled_when_a_failure_is_known_has_not_begun(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, cmd: str
) -> None:
    """A process that begins and is killed at once may have done something already."""
    begun: list[str] = []
    launch = ground.executor._launch  # type: ignore[attr-defined]  # of processes

    def launched(running: LocalExec, *rest: object) -> object:
        begun.append(running.config.ident)
        return launch(running, *rest)

    monkeypatch.setattr(ground.executor, "_launch", launched)
    scheduler = LocalScheduler(ground.executor)
    whole = Resources(cpu=ground.executor.resources.amount("cpu"))

    def task(ident: str, cmd: str) -> Task:
        id = Digest.random()
        return Task(id=id, flow_id=id, config=command(cmd, OUT, ident=ident, resources=whole))

    async def run_first() -> TaskOutcome:
        outcome = await scheduler.run(task("first", cmd))
        for each in others:  # as the evaluator does
            each.cancel()
        return outcome

    others: list[asyncio.Task[TaskOutcome]] = []
    first = asyncio.ensure_future(run_first())
    others += [asyncio.ensure_future(scheduler.run(task("other", "echo > %s"))) for _ in range(3)]
    assert not (await first).has_succeeded
    await asyncio.wait(others)
    assert begun == ["first"]
    await scheduler.close()


async def test_who_waits_for_another_run_has_no_room_meanwhile(ground: Ground, tmp_path: Path) -> None:
    """The other run may be waiting for that room."""
    config = command(f"echo x >> {tmp_path}/ran; echo x > %s", OUT)
    first, second = Door(is_open=False), Door()
    one = asyncio.ensure_future(ground.executor.put(Digest.random(), config, None, first))
    await first.asked.wait()
    other = ground.new_executor()
    await other.start()
    two = asyncio.ensure_future(other.put(Digest.random(), config, None, second))
    await second.left.wait()
    assert not two.done()
    first.opened.set()
    assert await value(await one) == await value(await two)
    # What the first one has noted needs no room.
    assert second.done.count("enter") == 0
    assert (tmp_path / "ran").read_text() == "x\n"
    await other.close()


async def test_what_a_dead_run_left_running_takes_room(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "process")
    config = command(f"echo begun; sleep 0.5; echo x >> {tmp_path}/ran; echo x > %s", OUT)
    crashed(ground, config)
    await ground.executor.start()
    door = Door()
    running = await ground.executor.put(Digest.random(), config, None, door)
    assert running.is_adopted
    assert "enter" in door.done
    await running.wait()
    assert (tmp_path / "ran").read_text() == "x\n"
    assert door.done[-1] == "leave"
    await ground.executor.close()
