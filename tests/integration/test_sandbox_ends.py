"""How execs in sandboxes end, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.executor.execdir import tenant_of
from tests import sandboxes
from tests.crash import crashed
from tests.execs import OUT, Ground, command, error_of, member
from tests.processes import processes_with
from tests.sandboxground import launcher_pid

pytestmark = pytest.mark.sandbox


async def test_nothing_outlives_its_exec(ground: Ground, doze: str) -> None:
    script = f"setsid {doze} & ({doze} & disown); nohup {doze} >/dev/null 2>&1 & echo x > %s"
    assert await ground.output(script, OUT) == b"x\n"
    assert processes_with(doze) == []


@pytest.mark.parametrize("delay_s", [0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.05])
async def test_nothing_is_left_of_an_exec_that_is_interrupted_at_any_moment(
    ground: Ground, doze: str, delay_s: float
) -> None:
    file = await ground.object(b"x" * 900_000)
    id = Digest.random()
    putting = asyncio.ensure_future(ground.put(command(f"trap '' TERM; : %s; {doze}", file), id))
    await asyncio.sleep(delay_s)
    await ground.executor.remove(id)
    with pytest.raises(ReflowError) as caught:
        await (await putting).wait()
    assert caught.value.kind is Kind.CANCELED
    assert processes_with(doze) == []
    assert ground.left() == []
    assert await ground.output("echo x > %s", OUT) == b"x\n"


async def test_kill_now_leaves_nothing(ground: Ground, doze: str) -> None:
    running = await ground.put(command(f"setsid {doze} & {doze}"))
    await appear(doze, 3)
    await asyncio.to_thread(ground.executor.kill_now)
    await asyncio.wait_for(running.wait(), 10)
    assert error_of(await running.result()).kind is Kind.OOM  # as whatever SIGKILL ended
    await gone(doze)


async def appear(mark: str, count: int) -> None:
    """Wait until so many processes have ``mark`` in their command line."""
    for _ in range(500):
        if len(processes_with(mark)) >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(processes_with(mark))


async def gone(mark: str) -> None:
    """Wait, for a moment, until no process has ``mark`` in its command line."""
    for _ in range(100):
        if not processes_with(mark):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(processes_with(mark))


@pytest.mark.parametrize("victim", ["launcher", "bubblewrap"])
async def test_execs_fail_and_others_run_after_a_helper_was_killed(
    ground: Ground, doze: str, victim: str
) -> None:
    running = await ground.put(command(f"setsid {doze} & {doze}"))
    await appear(doze, 3)
    for _ in range(500):
        if not running.pid:
            await asyncio.sleep(0.01)
    assert running.pid
    os.kill(launcher_pid(ground) if victim == "launcher" else running.pid, signal.SIGKILL)
    if victim == "launcher":
        with pytest.raises(ReflowError, match="launcher ended") as caught:
            await asyncio.wait_for(running.wait(), 10)
        assert caught.value.kind is Kind.UNAVAILABLE
    else:
        await asyncio.wait_for(running.wait(), 10)
        assert error_of(await running.result()).kind is Kind.OOM  # as whatever SIGKILL ended
    await gone(doze)
    assert await ground.output("echo x > %s", OUT) == b"x\n"


def started(argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv)


async def test_a_bubblewrap_that_was_just_starting_goes_when_the_next_run_starts(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "sandbox")
    crashed(ground, command("echo begun; sleep 600"))
    (left,) = (tmp_path / "local/execs").iterdir()
    tenant = tenant_of(str(left))
    assert tenant is not None
    stat = Path(f"/proc/{tenant.pid}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)  # its launcher
    await gone(f"{left}/return")
    stuck = started(sandboxes.python("-c", "import time; time.sleep(600)", f"{left}/return"))
    await ground.executor.start()
    assert stuck.wait(10) == -signal.SIGKILL
    await ground.executor.close()


async def test_what_a_killed_run_left_ends_with_the_next_that_does_not_want_it(
    tmp_path: Path, doze: str
) -> None:
    ground = Ground(tmp_path, "sandbox")
    crashed(ground, command(f"setsid {doze} & trap '' TERM; {doze}"), until="started")
    await ground.executor.start()
    assert len(ground.left()) == 1
    await appear(doze, 3)
    await ground.executor.close()
    await gone(doze)
    await gone(f"{tmp_path}/local/spare")
    assert ground.left() == []
    assert list(ground.localdir.glob("spare/*")) == []


async def test_descriptors_are_given_back(ground: Ground) -> None:
    await ground.output("echo x > %s", OUT)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        await ground.output(f"echo {number} > %s; echo log", OUT)
        await ground.run(command(f"exit {number % 3}"))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_many_at_once(ground: Ground) -> None:
    results = await asyncio.gather(*[ground.run(command(f"echo {n} > %s", OUT)) for n in range(60)])
    texts = await asyncio.gather(*[ground.read(member(result).file()) for result in results])
    assert texts == [b"%d\n" % n for n in range(60)]


async def test_only_the_commands_processes_are_listed(ground: Ground) -> None:
    running = await ground.put(command("sleep 30; :"))
    await asyncio.sleep(0.2)
    lines = await ground.executor.command_lines(running)
    assert [line.partition(" ")[0] for line in lines] == ["/bin/bash", "sleep"]
