"""What is special to execs that are processes of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecResult
from reflow.core.fileset import Fileset
from tests.execs import OUT, Ground, command, member
from tests.processes import processes_with
from tests.waiting import until

ROOT = Path(__file__).parents[3]


async def test_commands_get_little_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDA_PREFIX", "/conda")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/lib")
    monkeypatch.setenv("MY_SECRET", "s")
    ground = Ground(tmp_path, "process")
    await ground.executor.start()
    got = (await ground.output("env > %s", OUT)).decode()
    names = {line.partition("=")[0] for line in got.splitlines()}
    assert {"PATH", "CONDA_PREFIX", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "tmp"} <= names
    assert "MY_SECRET" not in names
    assert f"PATH={os.environ['PATH']}\n" in got
    await ground.executor.close()


async def test_the_working_directory_is_the_execs_own(ground: Ground) -> None:
    assert await ground.output('test "$PWD" = "$TMPDIR" && touch here && echo yes > %s', OUT) == b"yes\n"


async def test_paths_are_the_same_every_time(ground: Ground) -> None:
    file = await ground.object(b"abc")
    first = await ground.output("echo %s $PWD > %s", file, OUT)
    other = Ground(ground.base, "process")
    await other.executor.start()
    assert await other.output("echo %s $PWD > %s", file, OUT) == first
    await other.executor.close()


async def test_a_command_with_a_null_byte_is_an_error(ground: Ground) -> None:
    with pytest.raises(ReflowError) as caught:
        await ground.put(command("echo \0"))
    assert caught.value.kind is Kind.INVALID
    assert ground.left() == []


async def test_links_by_real_paths_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    ground = Ground(tmp_path, "process", localdir=tmp_path / "link/local")
    await ground.executor.start()
    result = await ground.run(command("cd %s; echo a > a; ln -s $(realpath a) b", OUT, dirs=(True,)))
    assert result.error is None, result.error
    assert set(member(result).files) == {"a", "b"}
    await ground.executor.close()


async def test_a_linked_input_can_be_moved_and_copied_as_a_link(ground: Ground) -> None:
    tree = Fileset({f"f{n}": await ground.users(f"f{n}", b"%d" % n * (2 << 20)) for n in range(2)})
    result = await ground.run(command("cp -a %s/. %s", tree, OUT, dirs=(True,)))
    assert result.error is None, result.error
    assert member(result) == tree
    one = await ground.run(command("mv %s/f1 %s", tree, OUT))
    assert member(one).file() == tree.files["f1"]
    assert (ground.base / "user/f1").stat().st_nlink == 1


async def test_a_hard_link_to_a_users_file_is_copied(ground: Ground) -> None:
    mine = ground.base / "mine"
    mine.write_bytes(b"mine")
    mode = mine.stat().st_mode
    result = await ground.run(command(f"ln {mine} %s", OUT))
    assert await ground.read(member(result).file()) == b"mine"
    assert (mine.stat().st_mode, mine.stat().st_nlink) == (mode, 1)


async def test_remove_kills_the_whole_tree(ground: Ground, doze: str) -> None:
    running = await ground.put(command(f"({doze} & setsid {doze} & wait) & {doze}"))
    await until(lambda: sum(line.startswith("sleep") for line in processes_with(doze)) == 3)
    await ground.executor.remove(running.id)
    assert processes_with(doze) == []


async def test_what_leaves_its_session_is_killed_at_close(ground: Ground, doze: str) -> None:
    await ground.output(f"setsid {doze} > /dev/null & echo x > %s", OUT)
    await ground.executor.close()
    assert processes_with(doze) == []


async def test_what_a_killed_run_left_is_killed_when_nobody_wanted_it(tmp_path: Path, doze: str) -> None:
    ground = Ground(tmp_path, "process")
    crash(tmp_path, f"{doze} & setsid {doze} & wait")
    assert processes_with(doze)
    await ground.executor.start()
    assert processes_with(doze)
    await ground.executor.close()
    assert processes_with(doze) == []
    assert ground.left() == []


async def test_processes_of_live_runs_are_left_alone(ground: Ground) -> None:
    running = await ground.put(command("sleep 0.5; echo x > %s", OUT))
    other = ground.new_executor()
    await other.start()
    await other.put(Digest.random(), command("true"))
    await other.close()
    await running.wait()
    assert (await running.result()).error is None


async def test_kill_now_kills_at_once(ground: Ground, doze: str) -> None:
    running = await ground.put(command(f"trap '' TERM INT; {doze}; {doze}"))
    ground.executor.kill_now()
    await asyncio.wait_for(running.wait(), 5)
    assert processes_with(doze) == []


@pytest.mark.parametrize(
    "harm",
    [
        "rm -rf $TMPDIR/../arg",
        "chmod 000 $TMPDIR/../arg $TMPDIR/../return",
        "rm -f $TMPDIR/../lock",
        "rm -rf $TMPDIR; ln -s / $TMPDIR/../tmp",
        "cd $TMPDIR/..; rmdir return; ln -s /tmp return",
        "cd /; rm -rf $TMPDIR/..",
        "cd $TMPDIR/..; rm manifest.json; ln -s /dev/full manifest.json",
        "cd $TMPDIR/..; rm manifest.json; mkfifo manifest.json",
        "cd $TMPDIR/..; rm manifest.json; mkdir manifest.json",
        "cd $TMPDIR/..; echo x > manifest.json",
        "touch $TMPDIR/../arg/x $TMPDIR/../y; mkdir $TMPDIR/../arg/0/z",
    ],
)
async def test_a_destroyed_directory_does_not_reach_the_next_exec(ground: Ground, harm: str) -> None:
    file = await ground.object(b"abc")
    await ground.run(command(f"{harm}; : %s", file, dirs=()))
    script = "a=%s; o=%s; cat $a > $o; (cd $TMPDIR/..; find . | sort) >> $o"
    paths = [".", *(f"./{name}" for name in ("arg", "arg/0", "arg/0/0", "lock", "manifest.json"))]
    paths += ["./return", "./return/0", "./tmp"]
    for _ in range(2):
        result = await ground.run(command(script, file, OUT))
        assert result.error is None, result.error
        text = (await ground.read(member(result).file())).decode()
        assert text == "abc" + "".join(f"{path}\n" for path in paths)


async def test_an_exec_ends_though_children_were_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        ground = Ground(tmp_path, "process")
        await ground.executor.start()
        assert await ground.output("echo x > %s", OUT) == b"x\n"
        await ground.executor.close()
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.fixture
async def direct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ground]:
    """As it is on a system that has not what a launcher takes."""
    monkeypatch.delattr(os, "memfd_create")
    ground = Ground(tmp_path, "process")
    await ground.executor.start()
    yield ground
    await ground.executor.close(kill=True)


async def test_commands_run_without_a_launcher(direct: Ground, doze: str) -> None:
    assert await direct.output(f"({doze} & {doze} &); pwd -P > %s", OUT) != b""
    assert processes_with(doze) == []
    assert error_text(await direct.run(command("exit 3"))) == "exited with code 3"


async def test_commands_without_a_launcher_are_killed(direct: Ground, doze: str) -> None:
    running = await direct.put(command(f"trap '' TERM; {doze}; {doze}"))
    await direct.executor.remove(running.id)
    assert processes_with(doze) == []
    other = await direct.put(command(doze))
    direct.executor.kill_now()
    await asyncio.wait_for(other.wait(), 10)
    assert "137" in error_text(await other.result())


def error_text(result: ExecResult) -> str:
    assert result.error is not None
    return str(result.error.cause)


async def test_no_bash_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReflowError, match="bash was not found on PATH"):
        await Ground(tmp_path, "process").executor.start()


async def test_no_descriptors_leak(ground: Ground) -> None:
    await ground.output("echo x > %s", OUT)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await ground.output("echo y > %s", OUT)
        await ground.run(command("exit 1"))
    # A directory that was set aside has its lock open.
    assert len(os.listdir("/proc/self/fd")) <= before + 1


CRASH = """
import asyncio, sys
from pathlib import Path
from tests.processes import processes_with
from tests.execs import Ground, command

async def main():
    ground = Ground(Path(sys.argv[1]), "process")
    await ground.executor.start()
    await ground.put(command(sys.argv[2]))
    await asyncio.sleep(0.2)
    print("running", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def crash(base: Path, script: str) -> None:
    """Start an exec in a process that is killed then."""
    words = [sys.executable, "-c", CRASH, str(base), script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"running\n"
        child.send_signal(signal.SIGKILL)
