"""Sandboxes that are ready before there is room for their commands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from tests.crash import crashed
from tests.execs import OUT, Door, Ground, command
from tests.processes import processes_with

pytestmark = pytest.mark.sandbox


async def ready(ground: Ground, cmd: str) -> tuple[asyncio.Task[object], Door, Digest]:
    """An exec whose sandbox is there, or about to be."""
    door, id = Door(is_open=False), Digest.random()
    putting = asyncio.ensure_future(ground.executor.put(id, command(cmd, OUT), None, door))
    await door.asked.wait()
    return putting, door, id


async def test_a_command_begins_when_there_is_room(ground: Ground, doze: str) -> None:
    putting, door, id = await ready(ground, f"{doze} & echo x > %s")
    await asyncio.sleep(0.2)
    assert not putting.done()
    assert [each for each in processes_with(doze) if "bwrap" not in each] == []
    door.opened.set()
    await putting
    running = await ground.executor.get(id)
    await running.wait()
    assert (await running.result()).error is None
    assert (await running.inspect()).runtime_s < 0.2


@pytest.mark.parametrize("delay_s", [0, 0.002, 0.005, 0.1])
async def test_nothing_is_left_of_one_that_is_not_wanted_any_more(
    ground: Ground, doze: str, delay_s: float
) -> None:
    putting, _, id = await ready(ground, f"{doze}; echo x > %s")
    await asyncio.sleep(delay_s)
    await ground.executor.remove(id)
    with pytest.raises(ReflowError) as caught:
        await putting
    assert caught.value.kind is Kind.CANCELED
    assert ground.left() == []
    assert processes_with(doze) == []
    assert await ground.output("echo x > %s", OUT) == b"x\n"


async def test_one_whose_run_is_killed_never_begins(tmp_path: Path, doze: str) -> None:
    ground = Ground(tmp_path, "sandbox")
    config = command(f"echo x >> $TMPDIR/ran; {doze}; cp $TMPDIR/ran %s", OUT)
    crashed(ground, config, until="held")
    for _ in range(100):
        if not processes_with(f"{ground.localdir}"):
            break
        await asyncio.sleep(0.05)
    assert processes_with(f"{ground.localdir}") == []
    assert processes_with(doze) == []
    (left,) = (ground.localdir / "execs").iterdir()
    assert not (left / "tmp/ran").exists()
    await ground.executor.start()
    await ground.executor.close()
    assert ground.left() == []


async def test_many_take_turns_and_lose_nothing(ground: Ground) -> None:
    """One processor for twenty execs, each of which is ready before its turn."""
    inside: list[int] = []
    turn = asyncio.Semaphore(1)

    class Turn(Door):
        async def enter(self) -> None:
            await turn.acquire()
            inside.append(1)
            assert sum(inside) == 1
            self.is_held = True

        def leave(self) -> None:
            if self.is_held:
                self.is_held = False
                inside.append(-1)
                turn.release()

    async def run(number: int) -> bytes:
        room = Turn()
        config = command(f"echo {number} > %s", OUT)
        running = await ground.executor.put(Digest.random(), config, None, room)
        await running.wait()
        result = await running.result()
        assert result.error is None
        assert result.fileset.members is not None
        return await ground.read(result.fileset.members[0].file())

    assert await asyncio.gather(*map(run, range(20))) == [b"%d\n" % number for number in range(20)]
    assert sum(inside) == 0
