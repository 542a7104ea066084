"""Resources of a machine, through the real command: shared by its runs, and predicted from earlier ones."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from reflow.disk.controlgroup import usable_cpus
from tests.command import Workspace
from tests.daemons import Gate
from tests.waiting import wait_until

MANY = """
param (
    log string
    name string
)
func one(i, cores int) = exec(image := "ubuntu", cpu := cores, mem := 16*MiB) (out file) {"
    echo {{cores}} $(date +%s.%N) >> {{log}}
    sleep 0.3
    echo -{{cores}} $(date +%s.%N) >> {{log}}
    echo {{name}} {{i}} > {{out}}
"}
val Main = [one(i, c) | i <- range(0, 4), c <- [1, CORES]]
"""
WHOLE = """
param (
    log string
    go string
)
val Main = exec(image := "ubuntu", cpu := CORES, mem := 16*MiB) (out file) {"
    echo $$ >> {{log}}
    until test -e {{go}}; do sleep 0.05; done
    echo {{log}} > {{out}}
"}
"""
USES = """
val Main = exec(image := "ubuntu", cpu := 1, mem := DECLARED) (out file) {"
    python3 -c 'import time; held = b"x" * (USED << 20); time.sleep(3.2)'
    STATUS
    echo done > {{out}}
"}
"""
PREDICTS = "predictor: testpredictorconfig\n"
MIB = 1 << 20


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    cores = str(usable_cpus())
    made.write("many.rf", MANY.replace("CORES", cores))
    made.write("whole.rf", WHOLE.replace("CORES", cores))
    return made


def ended(run: subprocess.Popen[str]) -> None:
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err


def test_two_runs_never_use_more_cores_than_there_are(work: Workspace) -> None:
    log = work.dir / "log"
    runs = [
        work.start(
            "run",
            "-executor",
            "process",
            f"-localdir={work.dir}/{name}",
            "many.rf",
            f"-log={log}",
            f"-name={name}",
        )
        for name in "ab"
    ]
    for run in runs:
        ended(run)
    events = sorted((float(at), int(cores)) for cores, at in map(str.split, log.read_text().splitlines()))
    assert len(events) == 2 * 8 * 2
    used = most = 0
    for _, cores in events:
        used += cores
        most = max(most, used)
    assert used == 0
    assert most == usable_cpus()


def start_whole(work: Workspace, name: str) -> subprocess.Popen[str]:
    return work.start(
        *("run", "-executor", "process", f"-localdir={work.dir}/{name}"),
        *("whole.rf", f"-log={work.dir / name}.pids", f"-go={work.dir / 'go'}"),
    )


def is_some_run_waiting(work: Workspace) -> bool:
    """Whether a run says in the ledger that a task of it waits for room."""
    entries = (work.state / "machine").glob("*/*-*")
    texts = [path.read_text().partition("\n")[0] for path in entries]
    return any(json.loads(text)[3] is not None for text in texts if text)


def test_what_a_killed_run_has_left_running_keeps_its_share(work: Workspace) -> None:
    first = start_whole(work, "one")
    wait_until((work.dir / "one.pids").exists)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    pid = int((work.dir / "one.pids").read_text())
    second = start_whole(work, "two")
    third = start_whole(work, "three")
    # One goes past what nobody waits for, so that nothing waits for ever; the other does not.
    begun = [work.dir / "two.pids", work.dir / "three.pids"]
    wait_until(lambda: any(path.exists() for path in begun) and is_some_run_waiting(work))
    assert not all(path.exists() for path in begun)
    os.kill(pid, 0)
    (work.dir / "go").touch()
    ended(second)
    ended(third)
    assert all(path.exists() for path in begun)


@pytest.mark.docker
def test_a_container_that_a_killed_run_has_left_keeps_its_share(work: Workspace, gate: Gate) -> None:
    text = 'val Main = exec(image := "ubuntu", cpu := CORES) (out file) {" GATE; : NAME; : > {{out}} "}'
    for name, cores in (("whole", str(usable_cpus())), ("one", "1"), ("two", "1")):
        program = text.replace("GATE", gate.command).replace("NAME", name).replace("CORES", cores)
        work.write(f"{name}.rf", program)

    def start(name: str, executor: str) -> subprocess.Popen[str]:
        return work.start("run", "-executor", executor, f"-localdir={work.dir}/{name}", f"{name}.rf")

    first = start("whole", "docker")
    gate.wait_for(1)
    first.kill()
    first.communicate()
    try:
        runs = [start("one", "process"), start("two", "process")]
        gate.wait_for(2)  # one goes past what nobody waits for
        wait_until(lambda: is_some_run_waiting(work))
        time.sleep(3)
        assert gate.count == 2
    finally:
        remove_containers(work.dir / "whole/.reflow")
    gate.wait_for(3)
    gate.open()
    for run in runs:
        ended(run)


def remove_containers(local_dir: Path) -> None:
    words = ["docker", "ps", "-aq", "--filter", f"label=reflow-localdir={local_dir}"]
    ids = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert len(ids) == 1
    subprocess.run(["docker", "rm", "-f", *ids], capture_output=True, check=True)


def rows(work: Workspace) -> list[float]:
    """Memory that tasks were given, in MiB, in their order."""
    with sqlite3.connect(work.state / "taskdb.db") as connection:
        names = [row[1] for row in connection.execute("pragma table_info(tasks)")]
        assert "resources" in names, names
        found = connection.execute("select resources from tasks order by rowid").fetchall()
    return [json.loads(text)["mem"] / MIB for (text,) in found]


def run_uses(work: Workspace, declared: str, used_mib: int, status: str = "true", *more: str) -> None:
    text = USES.replace("DECLARED", declared).replace("USED", str(used_mib)).replace("STATUS", status)
    work.write("uses.rf", text)
    work.reflow("run", "-executor", "process", "-invalidate=.", *more, "uses.rf").ok()


def test_memory_shrinks_to_what_was_used_before(work: Workspace) -> None:
    work.state.mkdir()
    (work.state / "config.yaml").write_text(PREDICTS)
    run_uses(work, "2*GiB", 700)
    run_uses(work, "2*GiB", 700, "true", "-pred")
    first, second = rows(work)
    assert first == 2048
    assert 690 < second < 800


def test_memory_grows_to_what_was_used_before(work: Workspace) -> None:
    work.state.mkdir()
    (work.state / "config.yaml").write_text(PREDICTS)
    run_uses(work, "500*MiB", 700)
    run_uses(work, "500*MiB", 700, "true", "-pred")
    first, second = rows(work)
    assert first == 500
    assert 690 < second < 800


def test_prediction_without_a_record_is_refused(work: Workspace) -> None:
    work.state.mkdir()
    (work.state / "config.yaml").write_text("taskdb: noptaskdb\npredictor: predictorconfig\n")
    work.reflow("run", "-pred", "many.rf", "-log=x", "-name=y").failed("the key taskdb is not set")
