"""The small parts: directories, statistics, machines, rendering, threads."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.disk.blocking import Blocking
from reflow.executor import layout as layouts
from reflow.executor import machine, proctree
from reflow.executor.cgroup import Meter
from reflow.executor.execdir import ExecDir, is_locked
from reflow.executor.layout import Layout, os_error, work_digest
from reflow.executor.profile import Stats, tree_size
from reflow.executor.staging import inner_path, render
from tests.execs import OUT, command


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    layout = Layout(str(tmp_path / "local"))
    layout.prepare()
    yield layout
    layout.close()


def test_a_directory_is_locked_while_its_exec_lives(layout: Layout) -> None:
    path = layout.path(command("true"))
    directory = layout.try_acquire(path)
    assert directory is not None
    assert layout.try_acquire(path) is None
    assert is_locked(path)
    directory.remove()
    assert not os.path.exists(path)
    assert layout.try_acquire(path) is not None


def skeleton(layout: Layout, cmd: str) -> ExecDir:
    """The directory of an exec that has just ended."""
    directory = layout.try_acquire(layout.path(command(cmd)))
    assert directory is not None
    for name in ("arg/0", "return/0", "tmp"):
        os.makedirs(f"{directory.path}/{name}", exist_ok=True)
    return directory


def test_a_directory_that_was_set_aside_is_used_again(layout: Layout) -> None:
    directory = skeleton(layout, "a")
    Path(directory.path, "arg/0/0").touch()
    Path(directory.path, "tmp/x").touch()
    Path(directory.path, "stderr").write_text("said")
    layout.leave(directory)
    assert os.listdir(f"{layout.localdir}/execs") == []
    path = layout.path(command("b"))
    assert layout.try_acquire(path) is directory
    assert is_locked(path)
    found = [f"{name}/{each}" for name, _, leaves in os.walk(path) for each in leaves]
    assert sorted(found) == [f"{path}/lock"]
    assert sorted(os.listdir(path)) == ["arg", "lock", "return", "tmp"]
    directory.remove()


def test_a_spare_directory_does_not_replace_one_that_is_there(layout: Layout) -> None:
    layout.leave(skeleton(layout, "a"))
    path = layout.path(command("a"))
    os.makedirs(f"{path}/left")
    again = layout.try_acquire(path)
    assert again is not None
    assert again.is_used
    again.clear()
    assert os.listdir(path) == ["lock"]


def test_much_is_moved_away_and_deleted_later(layout: Layout) -> None:
    directory = skeleton(layout, "a")
    for number in range(200):
        Path(directory.path, f"return/f{number}").touch()
    layout.leave(directory)
    assert os.listdir(f"{layout.localdir}/execs") == []
    assert layout.has_trash
    layout.sweep()
    (own,) = os.listdir(f"{layout.localdir}/spare")
    assert os.listdir(f"{layout.localdir}/spare/{own}") == ["lock"]


def test_nothing_is_left_when_a_layout_is_closed(layout: Layout) -> None:
    layout.leave(skeleton(layout, "a"))
    layout.close()
    assert os.listdir(f"{layout.localdir}/spare") == []


def test_leftovers_are_what_nobody_has_locked(layout: Layout) -> None:
    mine = layout.try_acquire(layout.path(command("mine")))
    dead = layout.try_acquire(layout.path(command("dead")))
    kept = layout.try_acquire(layout.path(command("kept")))
    assert mine is not None
    assert dead is not None
    assert kept is not None
    dead.release()
    kept.keep("exited", "script")
    assert [each.path for each in layout.leftovers()] == [dead.path]


def test_kept_directories_go_after_two_weeks(layout: Layout) -> None:
    kept = layout.try_acquire(layout.path(command("kept")))
    assert kept is not None
    kept.keep("exited", "script")
    old_s = time.time() - layouts.KEEP_FAILED_S - 1
    os.utime(f"{kept.path}/failed", (old_s, old_s))
    assert [each.path for each in layout.leftovers()] == [kept.path]


def test_a_localdir_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReflowError, match="file"):
        Layout(str(tmp_path / "file/local")).prepare()


def test_the_same_work_has_the_same_name() -> None:
    file = File(Digest.of(b"a"), 1)
    one = command("cat %s > %s", file, OUT, ident="x", position="a.rf:1")
    assert work_digest(one) == work_digest(command("cat %s > %s", file, OUT, ident="y"))
    others = [
        command("cat %s >> %s", file, OUT),
        command("cat %s > %s", File(Digest.of(b"b"), 1), OUT),
        command("cat %s > %s", Fileset(members=[Fileset.of_file(file), Fileset()]), OUT),
        command("cat %s > %s", file, OUT, dirs=(True,)),
        command("cat %s > %s", file, OUT, image="other"),
    ]
    assert len({work_digest(each) for each in [one, *others]}) == 6


def test_a_full_disk_is_resources_exhausted(tmp_path: Path) -> None:
    import errno

    error = os_error("exec", "x", OSError(errno.ENOSPC, "No space left on device", str(tmp_path)))
    assert error.kind is Kind.RESOURCES_EXHAUSTED
    assert str(tmp_path) in str(error)


def test_templates_are_rendered() -> None:
    assert render("a %s%% %s", ["x y", "z"]) == "a x y% z"
    with pytest.raises(ReflowError, match="command template"):
        render("%s %s", ["x"])
    with pytest.raises(ReflowError, match="command template"):
        render("%d", ["x"])


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", ".."])
def test_paths_that_lead_out_are_refused(path: str) -> None:
    with pytest.raises(ReflowError, match="leads out"):
        inner_path(path)


def test_statistics_of_a_gauge() -> None:
    stats = Stats()
    for when_s, value in enumerate((1.0, 3.0, 2.0)):
        stats.observe("mem", value, float(when_s))
    entry = stats.profile()["mem"]
    assert (entry.max, entry.mean, entry.n) == (3.0, 2.0, 3)
    assert entry.var == pytest.approx(2 / 3)
    assert entry.first is not None
    assert entry.last is not None
    assert (entry.last - entry.first).total_seconds() == 2
    assert stats.gauges == {"mem": 2.0}


def test_size_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "d/b").write_bytes(b"defg")
    (tmp_path / "l").symlink_to("a")
    assert tree_size(str(tmp_path)) == 7
    assert tree_size(str(tmp_path), 2) == -1
    assert tree_size(str(tmp_path / "none")) == 0


def test_cpu_features_have_reflows_names(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx sse avx2 avx512f\nflags: none\n")
    assert machine.cpu_features(str(cpuinfo)) == ["intel_avx", "intel_avx2", "intel_avx512"]
    assert machine.cpu_features(str(tmp_path / "none")) == []


def test_a_share_of_the_memory_is_reserved(tmp_path: Path) -> None:
    resources = machine.local_resources(str(tmp_path), 1000.0, 4)
    assert (resources["mem"], resources["cpu"]) == (950.0, 4.0)


def test_meters_read_both_versions_of_control_groups(tmp_path: Path) -> None:
    one, two = tmp_path / "v1", tmp_path / "v2"
    one.mkdir()
    two.mkdir()
    (one / "memory.usage_in_bytes").write_text("1000\n")
    (one / "memory.stat").write_text("cache 1\ntotal_cache 300\n")
    (one / "cpuacct.usage").write_text("5000000000\n")
    (two / "memory.current").write_text("2000\n")
    (two / "memory.stat").write_text("anon 5\nfile 500\n")
    (two / "cpu.stat").write_text("usage_usec 7000000\n")
    first = Meter(str(one), str(one), False)
    usage = first.read()
    assert usage == (700, None)
    (one / "cpuacct.usage").write_text("6000000000\n")
    again = first.read()
    assert again is not None
    assert again.cpus is not None
    assert again.cpus > 0
    assert Meter(str(two), str(two), True).read() == (1500, None)
    assert Meter(str(tmp_path / "none"), "", True).read() is None


def test_our_own_process_is_seen() -> None:
    processes = proctree.scan()
    mine = processes[os.getpid()]
    assert mine.parent == os.getppid()
    assert mine.rss_bytes > 1 << 20
    assert mine in proctree.tree(os.getpid(), processes)
    assert proctree.proportional_bytes([os.getpid()]) > 1 << 20
    assert "python" in proctree.command_lines([os.getpid()])[0]


async def test_blocking_calls_return_and_raise() -> None:
    blocking = Blocking("test", 2)

    def fail() -> None:
        raise ValueError("no")

    assert await blocking(int, "7") == 7
    with pytest.raises(ValueError, match="no"):
        await blocking(fail)
    blocking.close()


async def test_no_more_threads_than_the_limit_work() -> None:
    blocking = Blocking("test", 2)
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)
        running -= 1

    await asyncio.gather(*[blocking(work) for _ in range(8)])
    assert most == 2
    blocking.close()


async def test_a_call_that_nobody_waits_for_does_no_harm() -> None:
    blocking = Blocking("test", 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(blocking(time.sleep, 0.05), 0.001)
    assert await blocking(int, "1") == 1
    blocking.close()
