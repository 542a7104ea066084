"""How execs end before their time under every executor, and transfers of local files: one suite."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, InputArg
from reflow.core.fileset import Fileset
from reflow.core.resources import Resources
from tests.execs import OUT, Ground, command, error_of

# Ending.


async def test_remove_kills(ground: Ground) -> None:
    running = await ground.put(command("trap '' TERM; echo x > $TMPDIR/x; sleep 300; sleep 300"))
    await ground.executor.remove(running.id)
    with pytest.raises(ReflowError) as caught:
        await running.wait()
    assert caught.value.kind is Kind.CANCELED
    assert ground.left() == []


async def test_an_interrupted_copy_of_inputs_leaves_nothing(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"f{n}": await ground.users(f"f{n}", b"%d" % n * 1000) for n in range(400)}
    id = Digest.random()
    putting = asyncio.ensure_future(ground.put(command("ls %s; sleep 60", Fileset(files)), id))
    await asyncio.sleep(0.03)
    await ground.executor.remove(id)
    with pytest.raises(ReflowError) as caught:
        await (await putting).wait()
    assert caught.value.kind is Kind.CANCELED
    assert ground.left() == []


async def test_an_exec_can_be_removed_before_anything_happened(ground: Ground) -> None:
    id = Digest.random()
    putting = asyncio.ensure_future(ground.put(command("sleep 600"), id))
    await asyncio.sleep(0)
    await ground.executor.remove(id)
    with pytest.raises(ReflowError) as caught:
        await asyncio.wait_for(putting, 10)
    assert caught.value.kind is Kind.CANCELED


async def test_a_waiting_exec_can_be_interrupted(ground: Ground) -> None:
    other = ground.new_executor()
    await other.start()
    config = command("sleep 600")
    await ground.put(config)
    id = Digest.random()
    putting = asyncio.ensure_future(other.put(id, config))
    await asyncio.sleep(0.1)
    await other.remove(id)
    with pytest.raises(ReflowError):
        await putting
    await other.close()


async def test_close_with_kill_leaves_nothing(ground: Ground) -> None:
    execs = [await ground.put(command(f"sleep 30{number}")) for number in range(3)]
    await ground.executor.close(kill=True)
    for running in execs:
        with pytest.raises(ReflowError):
            await running.wait()
    assert ground.left() == []


async def test_close_waits_for_what_runs(ground: Ground) -> None:
    running = await ground.put(command("sleep 0.3; echo x > %s", OUT))
    await ground.executor.close()
    assert (await running.result()).error is None


async def test_a_second_run_of_the_same_command_waits(ground: Ground) -> None:
    other = ground.new_executor()
    await other.start()
    config = command("sleep 0.7; echo $RANDOM > %s", OUT)
    first = await ground.put(config)
    said: list[str] = []
    second = await other.put(Digest.random(), config, lambda what, done, total: said.append(what))
    assert first.state == "complete"
    await second.wait()
    assert (await second.result()).error is None
    assert "waiting for another run of this exec" in said
    await other.close()


async def test_localdirs_may_have_any_name(ground: Ground, tmp_path: Path) -> None:
    there = Ground(tmp_path, ground.name, localdir=tmp_path / "a b;,:$x'\n")
    await there.executor.start()
    file = await there.object(b"abc")
    assert await there.output("cat %s > %s", file, OUT) == b"abc"
    await there.executor.close()


async def test_memory_limits_are_kept_when_they_are_hard(ground: Ground, tmp_path: Path) -> None:
    there = Ground(tmp_path, ground.name, hard_memory=True)
    await there.executor.start()
    hog = "x=$(head -c 400000000 /dev/zero | tr '\\0' x); sleep 5; echo ${#x} > %s"
    result = await there.run(command(hog, OUT, resources=Resources(mem=100 << 20)))
    assert error_of(result).kind is Kind.OOM
    assert "OOM" in str(result.error)
    await there.executor.close()


# Interns and externs.


async def test_localfile_interns_a_file_and_a_tree(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "in/s").mkdir(parents=True)
    (tmp_path / "in/a b").write_bytes(b"a")
    (tmp_path / "in/s/c").write_bytes(b"c")
    one = await ground.run(ExecConfig(type="intern", url=f"localfile://{tmp_path}/in/a b"))
    assert await ground.read(one.fileset.file()) == b"a"
    all = await ground.run(ExecConfig(type="intern", url=f"localfile://{tmp_path}/in/"))
    assert set(all.fileset.files) == {"a b", "s/c"}
    assert (tmp_path / "in/a b").stat().st_nlink == 1
    assert ground.left() == []


async def test_localfile_externs_copies(ground: Ground, tmp_path: Path) -> None:
    fileset = Fileset({"x/y": await ground.object(b"abc")})
    config = ExecConfig(type="extern", url=f"localfile://{tmp_path}/out", args=(InputArg(fileset),))
    assert (await ground.run(config)).fileset == fileset
    made = tmp_path / "out/x/y"
    assert made.read_bytes() == b"abc"
    assert made.stat().st_nlink == 1
    assert [each.name for each in made.parent.iterdir()] == ["y"]


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        (ExecConfig(type="intern", url="s3://b/k"), Kind.NOT_SUPPORTED, "no implementation for scheme s3"),
        (ExecConfig(type="intern", url="localfile:///nowhere/x"), Kind.NOT_EXIST, "/nowhere/x"),
        (ExecConfig(type="extern", url="localfile:///tmp/x"), Kind.PRECONDITION, "one argument, got 0"),
    ],
)
async def test_transfers_that_cannot_be(ground: Ground, config: ExecConfig, kind: Kind, words: str) -> None:
    running = await ground.put(config)
    with pytest.raises(ReflowError, match=words) as caught:
        await running.wait()
    assert caught.value.kind is kind
