"""What becomes of execs whose run was killed, and of those that two runs want, under every executor."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecResult
from reflow.core.resources import Resources
from reflow.executor import execdir
from reflow.executor.docker_left import FRESH_S, RunningContainers
from reflow.executor.execdir import MANIFEST
from reflow.executor.localexec import LocalExec
from reflow.runtime.machineshare import running_of
from tests.crash import crashed
from tests.execs import OUT, Ground, command, member
from tests.executors import EXECUTORS

WHICH = "read -r u < /proc/sys/kernel/random/uuid; echo $u"
"""Prints what tells one time that a command runs from another."""


@pytest.fixture(params=EXECUTORS)
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    """Its executor has not been started yet."""
    ground = Ground(tmp_path, request.param)
    yield ground
    await ground.executor.close(kill=True)


async def result_of(running: LocalExec) -> ExecResult:
    await asyncio.wait_for(running.wait(), 60)
    return await running.result()


async def text_of(ground: Ground, running: LocalExec) -> bytes:
    result = await result_of(running)
    assert result.error is None, result.error
    return await ground.read(member(result).file())


async def ended(ground: Ground) -> None:
    """Wait until an exec that a dead run has left has ended."""
    (name,) = ground.left()
    path = f"{ground.localdir}/execs/{name}"
    async with asyncio.timeout(60):
        if ground.name == "docker":
            from reflow.executor.docker_api import DockerApi
            from reflow.executor.docker_socket import wait
            from reflow.imagestore.host import socket_path

            api = DockerApi(socket_path())
            await api.connect()
            for row in await api.labelled([f"reflow-localdir={ground.localdir}"]):
                await wait(socket_path(), row["Id"])
            await api.close()
            return
        while execdir.ending_of(path) is None:  # noqa: ASYNC110  (other processes tell no events)
            await asyncio.sleep(0.02)


async def test_an_exec_that_still_runs_is_waited_for_and_not_run_again(ground: Ground) -> None:
    config = command(f"{WHICH}; sleep 2; echo $u > %s", OUT)
    _, which = crashed(ground, config)
    await ground.executor.start()
    running = await ground.put(config)
    assert running.state == "running"
    assert any("sleep 2" in line for line in (await running.inspect()).commands)
    logs = running.logs(stdout=True, stderr=False, follow=True)
    assert b"".join([chunk async for chunk in logs]) == which
    assert await text_of(ground, running) == which
    assert (await running.inspect()).runtime_s > 1.5
    assert ground.left() == []


async def test_an_exec_that_ended_meanwhile_is_served(ground: Ground) -> None:
    config = command(f"{WHICH}; sleep 0.3; echo $u > %s", OUT)
    _, which = crashed(ground, config)
    await ended(ground)
    await ground.executor.start()
    running = await ground.put(config)
    assert await text_of(ground, running) == which
    assert Path((await running.inspect()).stdout_path).read_bytes() == which
    assert ground.left() == []


@pytest.mark.parametrize("count", [20, 40])
async def test_inputs_and_links_to_them_are_outputs_of_survivors_too(ground: Ground, count: int) -> None:
    tree = {f"f{n}": await ground.object(b"%d\n" % n) for n in range(count)}
    large = await ground.users("large", b"u" * (2 << 20))
    from reflow.core.fileset import Fileset

    script = f"{WHICH}; i=%s; l=%s; cd %s; ln -s $i t; ln -s $l l; echo n > $i/new; sleep 0.3"
    config = command(script, Fileset(tree), large, OUT, dirs=(True,))
    crashed(ground, config)
    await ended(ground)
    await ground.executor.start()
    result = await result_of(await ground.put(config))
    assert result.error is None, result.error
    files = member(result).files
    assert len(files) == count + 2
    assert files["l"].id == large.id
    assert files["t/f7"] == tree["f7"]


async def test_a_failure_that_nobody_saw_is_served_with_its_output(ground: Ground) -> None:
    config = command(f"{WHICH}; sleep 0.3; echo no luck >&2; exit 3")
    _, which = crashed(ground, config)
    await ended(ground)
    await ground.executor.start()
    running = await ground.put(config)
    error = (await result_of(running)).error
    assert error is not None
    assert (error.kind, error.cause) == (Kind.DOCKER_EXEC, "exited with code 3")
    kept = Path((await running.inspect()).directory)
    assert (kept / "stdout").read_bytes() == which
    assert (kept / "stderr").read_text() == "no luck\n"
    # And then it is tried again, as any that has failed.
    again = await ground.put(config)
    await result_of(again)
    assert Path((await again.inspect()).stdout_path).read_bytes() != which


async def test_a_survivor_that_nobody_wants_is_removed(ground: Ground) -> None:
    crashed(ground, command(f"{WHICH}; sleep 600"))
    await ground.executor.start()
    assert await ground.output("echo other > %s", OUT) == b"other\n"
    assert len(ground.left()) == 1
    await ground.executor.close()
    assert ground.left() == []
    assert list((ground.localdir / "results").iterdir()) == []


async def test_what_survivors_use_is_known_until_they_are_claimed(ground: Ground) -> None:
    config = command(f"{WHICH}; sleep 600", resources=Resources(cpu=1, mem=5 << 20))
    crashed(ground, config)
    (name,) = ground.left()
    tenant = execdir.tenant_of(str(ground.localdir / "execs" / name))
    assert tenant is not None
    containers = RunningContainers()

    def held() -> dict[str, int]:
        return running_of(containers, str(ground.localdir), tenant.owner)

    assert held() == {"cpu": 1000, "mem": 5 << 20}
    await ground.executor.start()
    await asyncio.sleep(FRESH_S)  # by now a daemon has answered
    assert held() == {"cpu": 1000, "mem": 5 << 20}
    await ground.put(config)
    assert held() == {}


@pytest.mark.docker
async def test_a_container_that_has_ended_or_is_gone_holds_nothing(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "docker")
    config = command(f"{WHICH}; sleep 0.3", resources=Resources(cpu=1, mem=5 << 20))
    crashed(ground, config)
    await ended(ground)
    (name,) = ground.left()
    tenant = execdir.tenant_of(str(ground.localdir / "execs" / name))
    assert tenant is not None
    containers = RunningContainers()
    running_of(containers, str(ground.localdir), tenant.owner)
    await asyncio.sleep(FRESH_S)  # by now the daemon has answered
    assert running_of(containers, str(ground.localdir), tenant.owner) == {}
    await ground.executor.start()
    await ground.executor.close()


async def test_removing_an_adopted_exec_ends_it(ground: Ground) -> None:
    config = command(f"{WHICH}; trap '' TERM; sleep 600; sleep 600")
    crashed(ground, config)
    await ground.executor.start()
    running = await ground.put(config)
    await ground.executor.remove(running.id)
    with pytest.raises(ReflowError) as caught:
        await running.wait()
    assert caught.value.kind is Kind.CANCELED
    assert ground.left() == []


DAMAGE = {
    "empty": "",
    "half": '{"Type": 0, "State": 2, "ID": "sha',
    "other": '["what is this"]',
    "fields": '{"Foreign": {"0/0": 3}}',
    "not-whole": '{"Type": 0}{"Type": 0, "State": 2}',
    "bytes": "\x00\x00",
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_what_has_a_damaged_manifest_is_run_again(ground: Ground, damage: str) -> None:
    config = command(f"{WHICH}; sleep 0.3; echo $u > %s", OUT)
    _, which = crashed(ground, config)
    await ended(ground)
    (name,) = ground.left()
    (ground.localdir / "execs" / name / MANIFEST).write_text(DAMAGE[damage])
    await ground.executor.start()
    assert ground.left() == []
    assert await text_of(ground, await ground.put(config)) != which


async def test_what_was_recorded_before_the_machine_started_anew_is_not_believed(ground: Ground) -> None:
    config = command(f"{WHICH}; sleep 0.3; echo $u > %s", OUT)
    _, which = crashed(ground, config)
    await ended(ground)
    (name,) = ground.left()
    path = ground.localdir / "execs" / name / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "Boot": "another"}))
    await ground.executor.start()
    assert await text_of(ground, await ground.put(config)) != which


async def test_a_survivor_whose_input_was_written_to_is_run_again(ground: Ground) -> None:
    large = await ground.users("large", b"u" * (2 << 20))
    config = command(f"{WHICH}; test -e %s; sleep 0.3; echo $u > %s", large, OUT)
    _, which = crashed(ground, config)
    await ended(ground)
    manifest = json.loads((ground.localdir / "execs" / ground.left()[0] / MANIFEST).read_text())
    if not manifest["Foreign"]:
        pytest.skip("blocks of files are shared on this file system")
    path = ground.base / "user/large"
    os.utime(path, ns=(time.time_ns(), time.time_ns() - 10**10))
    await ground.users("large", b"u" * (2 << 20))
    await ground.executor.start()
    assert await text_of(ground, await ground.put(config)) != which


async def test_a_run_that_is_killed_while_it_takes_outputs_over_loses_none(ground: Ground) -> None:
    script = f"{WHICH}; cd %s; for i in 1 2 3 4 5; do echo $u-$i > $i; done"
    config = command(script, OUT, dirs=(True,))
    _, which = crashed(ground, config, until="installing")
    await ground.executor.start()
    result = await result_of(await ground.put(config))
    assert sorted(member(result).files) == ["1", "2", "3", "4", "5"]
    assert await ground.read(member(result).files["4"]) == which.strip() + b"-4\n"


async def test_a_result_that_was_not_cached_yet_is_served(ground: Ground) -> None:
    config = command(f"{WHICH}; echo $u > %s; sleep 0.1", OUT)
    _, which = crashed(ground, config, until="concluded")
    assert ground.left() == []
    await ground.executor.start()
    running = await ground.put(config)
    assert await text_of(ground, running) == which
    await ground.executor.close()
    assert list((ground.localdir / "results").iterdir()) == []


async def test_a_result_whose_objects_are_gone_is_not_served(ground: Ground) -> None:
    config = command(f"{WHICH}; echo $u > %s; sleep 0.1", OUT)
    _, which = crashed(ground, config, until="concluded")
    os.unlink(ground.repository.path(Digest.of(which)))
    await ground.executor.start()
    assert await text_of(ground, await ground.put(config)) != which


async def test_nothing_of_a_dead_run_is_used_when_that_is_not_wanted(ground: Ground) -> None:
    config = command(f"{WHICH}; sleep 0.3; echo $u > %s", OUT)
    _, which = crashed(ground, config)
    ground.executor.recovery.is_wanted = False
    await ground.executor.start()
    assert await text_of(ground, await ground.put(config)) != which


# Two runs at once.


async def test_an_exec_that_two_runs_want_is_run_once(ground: Ground) -> None:
    config = command(f"{WHICH}; sleep 0.5; echo $u > %s", OUT)
    other = ground.new_executor()
    await ground.executor.start()
    await other.start()
    first = await ground.put(config)
    second = await other.put(Digest.random(), config)
    assert await text_of(ground, first) == await text_of(ground, second)
    assert await text_of(ground, await other.put(Digest.random(), config)) == await text_of(ground, first)
    await other.close()
    assert ground.left() == []


async def test_when_the_first_fails_the_second_takes_over(ground: Ground) -> None:
    config = command(f"{WHICH}; sleep 0.5; exit 3")
    other = ground.new_executor()
    await ground.executor.start()
    await other.start()
    first = await ground.put(config)
    second = await other.put(Digest.random(), config)
    for running in (first, second):
        assert (await result_of(running)).error is not None
    paths = [(await running.inspect()).stdout_path for running in (first, second)]
    assert Path(paths[0]).read_bytes() != Path(paths[1]).read_bytes()
    await other.close()


async def test_when_the_first_is_interrupted_the_second_takes_over(ground: Ground) -> None:
    config = command(f"{WHICH}; sleep 1; echo $u > %s", OUT)
    other = ground.new_executor()
    await ground.executor.start()
    await other.start()
    first = await ground.put(config)
    second = asyncio.ensure_future(other.put(Digest.random(), config))
    await asyncio.sleep(0.1)
    await ground.executor.remove(first.id)
    assert (await text_of(ground, await second)).count(b"-") == 4
    await other.close()


async def test_what_a_live_run_has_is_not_removed_by_another(ground: Ground) -> None:
    crashed(ground, command(f"{WHICH}; sleep 600"))
    other = ground.new_executor()
    await ground.executor.start()
    await other.start()
    await other.close()
    assert len(ground.left()) == 1
