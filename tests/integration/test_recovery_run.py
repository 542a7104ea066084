"""The real command is killed, and run again; two runs of it want the same at the same time.

``REFLOW_KILLS=200`` makes the campaign the full one (a tenth of that under docker, as containers are slow).
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.executor.execdir import tenant_of
from tests.campaign import Campaign, Counter, check_nothing_is_left, share_images
from tests.command import Workspace
from tests.executors import EXECUTORS
from tests.waiting import wait_until

KILLS = int(os.environ.get("REFLOW_KILLS", "0"))


SHARED = """
param port = 0
val shared = exec(image := "ubuntu", cpu := 1, mem := 16*MiB) (out file) {{"
    echo shared > /dev/tcp/127.0.0.1/{{{{port}}}}
    sleep 1.5
    echo shared > {{{{out}}}}
"}}
val Main = exec(image := "ubuntu", cpu := 1, mem := 16*MiB) (out file) {{"
    echo {name} > /dev/tcp/127.0.0.1/{{{{port}}}}
    cat {{{{shared}}}} > {{{{out}}}}; echo {name} >> {{{{out}}}}
"}}
"""

WAITING = """
param go = ""
val Main = exec(image := "ubuntu", cpu := 1, mem := 16*MiB) (out file) {"
    echo $$ >> {{go}}.pids
    echo is-waiting
    until test -e {{go}}; do sleep 0.1; done
    echo gone > {{out}}
"}
"""


@pytest.fixture
def counter() -> Iterator[Counter]:
    with Counter().listening() as counter:
        yield counter


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    share_images(made)
    return made


@pytest.mark.timeout(7200 if KILLS else 300)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_runs_that_are_killed_at_any_moment_lose_nothing(
    tmp_path: Path, counter: Counter, executor: str
) -> None:
    if KILLS:
        campaign = Campaign(tmp_path, executor, counter, execs=60, seed=7)
        outcome = campaign.run(KILLS // 10 if executor == "docker" else KILLS, 6)
    else:
        campaign = Campaign(tmp_path, executor, counter, execs=60 if executor == "process" else 24, seed=7)
        outcome = campaign.run(2 if executor == "docker" else 4, 4)
    print(f"{executor}: {outcome}")
    assert outcome.begun_again == 0


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_exec_that_two_programs_share_is_run_once(
    work: Workspace, counter: Counter, executor: str
) -> None:
    runs = []
    for name in ("one", "two"):
        work.write(f"{name}.rf", SHARED.format(name=name))
        runs.append(work.start("run", "-executor", executor, f"{name}.rf", "-port", str(counter.port)))
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, out + err
    assert dict(counter.lines) == {"shared": 1, "one": 1, "two": 1}
    check_nothing_is_left(work)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_when_the_run_that_has_it_is_killed_another_takes_it_over(
    work: Workspace, counter: Counter, executor: str
) -> None:
    for name in ("one", "two"):
        work.write(f"{name}.rf", SHARED.format(name=name))
    words = ["-port", str(counter.port)]
    first = work.start("run", "-executor", executor, "one.rf", *words)
    wait_until(lambda: counter.lines["shared"] == 1)
    second = work.start("run", "-executor", executor, "two.rf", *words)
    time.sleep(0.3)
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, out + err
    assert dict(counter.lines) == {"shared": 1, "two": 1}
    check_nothing_is_left(work)


@pytest.fixture
def waiting(work: Workspace) -> Iterator[tuple[list[str], Path]]:
    """The words of a run whose exec, under the process executor, waits for a file, and that file."""
    work.write("waiting.rf", WAITING)
    go = work.dir / "go"
    yield ["run", "-executor", "process", "waiting.rf", "-go", str(go)], go
    go.touch()


def pids(go: Path) -> list[int]:
    path = Path(f"{go}.pids")
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_adopted(work: Workspace, run: subprocess.Popen[str]) -> bool:
    """Tell whether the exec that there is has become that of a run."""
    tenants = [tenant_of(str(path)) for path in (work.state / "local/execs").iterdir()]
    return [tenant.owner for tenant in tenants if tenant is not None] == [run.pid]


def killed_in_the_midst(work: Workspace, words: list[str], go: Path) -> None:
    run = work.start(*words)
    wait_until(lambda: bool(pids(go)))
    run.kill()
    run.communicate()


def test_adopted_execs_are_shown_as_they_are(work: Workspace, waiting: tuple[list[str], Path]) -> None:
    words, go = waiting
    killed_in_the_midst(work, words, go)
    run = work.start(*words)
    wait_until(lambda: is_adopted(work, run))
    (path,) = (work.state / "local/execs").iterdir()
    tenant = tenant_of(str(path))
    assert tenant is not None
    assert tenant.pid == pids(go)[0]
    id = tenant.id[:8]
    assert f"    {id} " in work.reflow("ps").ok().out
    assert "is-waiting\n" in work.reflow("logs", "-stdout", id).ok().out
    assert "running" in work.reflow("info", id).ok().out
    go.touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err
    assert len(pids(go)) == 1
    assert "is-waiting\n" in work.reflow("logs", "-stdout", id).ok().out
    check_nothing_is_left(work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_a_run_ends_what_it_has_adopted(
    work: Workspace, waiting: tuple[list[str], Path], number: int
) -> None:
    words, go = waiting
    killed_in_the_midst(work, words, go)
    run = work.start(*words)
    wait_until(lambda: is_adopted(work, run))
    run.send_signal(number)
    run.communicate(timeout=60)
    assert run.returncode == 1
    check_nothing_is_left(work)


def test_a_run_of_something_else_removes_what_it_does_not_want(
    work: Workspace, waiting: tuple[list[str], Path]
) -> None:
    words, go = waiting
    killed_in_the_midst(work, words, go)
    work.write("other.rf", 'val Main = exec(image := "ubuntu") (out file) {" echo x > {{out}} "}')
    work.reflow("run", "-executor", "process", "other.rf").ok()
    check_nothing_is_left(work)
    (pid,) = pids(go)
    assert not is_running(pid)


def test_a_run_that_finds_all_in_the_cache_removes_what_a_killed_one_has_left(
    work: Workspace, waiting: tuple[list[str], Path]
) -> None:
    words, go = waiting
    work.write("other.rf", 'val Main = exec(image := "ubuntu") (out file) {" echo x > {{out}} "}')
    work.reflow("run", "-executor", "process", "other.rf").ok()
    killed_in_the_midst(work, words, go)
    work.reflow("run", "-n", "-executor", "process", "other.rf").ok()
    assert is_running(pids(go)[0])
    work.reflow("run", "-executor", "process", "other.rf").ok()
    check_nothing_is_left(work)
    assert not is_running(pids(go)[0])


def test_what_is_invalidated_is_run_again_though_a_killed_run_had_begun_it(
    work: Workspace, waiting: tuple[list[str], Path]
) -> None:
    words, go = waiting
    killed_in_the_midst(work, words, go)
    run = work.start("run", "-invalidate", ".*", *words[1:])
    wait_until(lambda: len(pids(go)) == 2)
    go.touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err


def test_a_result_that_a_killed_run_had_not_cached_yet_counts_as_cached(
    work: Workspace, waiting: tuple[list[str], Path]
) -> None:
    words, go = waiting
    work.write("other.rf", 'val Main = exec(image := "ubuntu") (out file) {" echo x > {{out}} "}')
    work.reflow("run", "-executor", "process", "other.rf").ok()
    index = sqlite3.connect(work.state / "assoc.db", isolation_level=None)
    index.execute("BEGIN IMMEDIATE")  # so nothing is cached
    run = work.start(*words)
    wait_until(lambda: bool(pids(go)))
    go.touch()
    journals = work.state / "local/results"
    wait_until(lambda: any(path.stat().st_size for path in journals.iterdir()))
    run.kill()
    run.communicate()
    index.execute("ROLLBACK")
    index.close()
    done = work.reflow("run", "-json", *words[1:]).ok()
    assert (done.json["executed"], done.json["cached"], done.json["failed"]) == (0, 1, 0)
    assert "(<-) waiting.Main" in done.err
    assert " ->  waiting.Main" not in done.err
    assert len(pids(go)) == 1
    told = work.reflow("why", "Main").ok().out
    assert "was not executed: another run had done it" in told
    assert work.reflow("run", "-json", *words[1:]).ok().json["cached"] == 1


def test_a_launcher_that_is_killed_makes_its_execs_run_again(
    work: Workspace, waiting: tuple[list[str], Path]
) -> None:
    words, go = waiting
    run = work.start(*words)
    wait_until(lambda: bool(pids(go)))
    stat = Path(f"/proc/{pids(go)[0]}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    wait_until(lambda: len(pids(go)) == 2)
    assert not is_running(pids(go)[0])
    go.touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err
    check_nothing_is_left(work)


def test_a_bash_that_is_killed_fails_its_exec_by_name(
    work: Workspace, waiting: tuple[list[str], Path]
) -> None:
    words, go = waiting
    run: subprocess.Popen[str] = work.start(*words)
    wait_until(lambda: bool(pids(go)))
    os.kill(pids(go)[0], signal.SIGSEGV)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "killed by SIGSEGV" in err
