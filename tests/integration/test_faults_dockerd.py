"""A Docker daemon that is restarted, killed or frozen while an exec runs: a real one, of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Workspace
from tests.daemons import Gate, begin, gated
from tests.owndocker import OwnDaemon

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start dockerd"),
]


@pytest.fixture(scope="module")
def dockerd() -> Iterator[OwnDaemon]:
    made = OwnDaemon()
    try:
        made.start()
        made.load()
        yield made
    finally:
        made.destroy()


@pytest.fixture(scope="module")
def surviving() -> Iterator[OwnDaemon]:
    """One whose containers outlive it."""
    made = OwnDaemon(live_restore=True)
    try:
        made.start()
        made.load()
        yield made
    finally:
        made.destroy()


@pytest.fixture
def work(tmp_path: Path, gate: Gate) -> Workspace:
    return gated(tmp_path, gate)


def succeeded(run: subprocess.Popen[str]) -> str:
    """Wait for a run that must have executed its exec once; what it said."""
    out, err = run.communicate(timeout=200)
    assert run.returncode == 0, err
    assert '"executed": 1, "cached": 0, "failed": 0' in out
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_dockerd_runs_the_exec_again_and_never_twice_at_once(
    work: Workspace, gate: Gate, dockerd: OwnDaemon, number: signal.Signals
) -> None:
    run = begin(work, dockerd)
    gate.wait_for(1)
    dockerd.restart(number)
    gate.wait_for(2, 100)
    gate.open()
    succeeded(run)
    assert (gate.count, gate.most) == (2, 1)
    assert dockerd.containers() == []


def test_a_container_that_outlives_its_dockerd_never_runs_beside_another(
    work: Workspace, gate: Gate, surviving: OwnDaemon
) -> None:
    run = begin(work, surviving)
    gate.wait_for(1)
    time.sleep(1)  # until the daemon has said that it runs
    surviving.restart(signal.SIGKILL)
    time.sleep(5)
    gate.open()
    succeeded(run)
    assert (gate.count, gate.most) == (1, 1)
    assert surviving.containers() == []


def test_a_container_that_its_dockerd_does_not_know_of_never_runs_beside_another(
    work: Workspace, gate: Gate, surviving: OwnDaemon
) -> None:
    run = begin(work, surviving)
    gate.wait_for(1)
    surviving.restart(signal.SIGKILL)  # at this moment it has started the container, and not noted it
    time.sleep(5)
    gate.open()
    succeeded(run)
    assert gate.most == 1
    assert surviving.containers() == []


def test_a_dockerd_that_freezes_for_a_while_costs_time_only(
    work: Workspace, gate: Gate, dockerd: OwnDaemon
) -> None:
    run = begin(work, dockerd)
    gate.wait_for(1)
    dockerd.send(signal.SIGSTOP)
    gate.open()
    time.sleep(5)
    assert run.poll() is None
    dockerd.send(signal.SIGCONT)
    succeeded(run)
    assert gate.count == 1
    assert dockerd.containers() == []


@pytest.fixture
def frozen(dockerd: OwnDaemon) -> Iterator[OwnDaemon]:
    dockerd.send(signal.SIGSTOP)
    yield dockerd
    dockerd.send(signal.SIGCONT)


def test_a_frozen_dockerd_is_named_before_anything_runs(work: Workspace, frozen: OwnDaemon) -> None:
    done = work.reflow("run", "-executor", "docker", "-json", "p.rf", DOCKER_HOST=frozen.host)
    done.failed("executor docker", f"no answer within 10 s at {frozen.socket}", "choose another executor")


def test_auto_does_without_a_frozen_dockerd(work: Workspace, frozen: OwnDaemon) -> None:
    work.write("q.rf", 'val Main = exec(image := "ubuntu") (out file) {" echo x > {{out}} "}\n')
    done = work.reflow("run", "-json", "q.rf", DOCKER_HOST=frozen.host).ok()
    assert f"docker: no answer within 1 s at {frozen.socket}" in done.err
    assert done.json["executed"] == 1


def test_an_interrupted_run_does_not_wait_for_a_frozen_dockerd_for_ever(
    work: Workspace, gate: Gate, dockerd: OwnDaemon
) -> None:
    run = begin(work, dockerd)
    gate.wait_for(1)
    time.sleep(1)  # a call that is under way may take as long as any: two minutes
    dockerd.send(signal.SIGSTOP)
    run.send_signal(signal.SIGINT)
    try:
        _, err = run.communicate(timeout=110)
    finally:
        dockerd.send(signal.SIGCONT)
    assert run.returncode == 1
    assert "Traceback" not in err
    assert gate.running == 0


@pytest.mark.timeout(600)
def test_a_dockerd_that_stays_frozen_is_named_and_the_run_ends(
    work: Workspace, gate: Gate, dockerd: OwnDaemon
) -> None:
    run = begin(work, dockerd)
    gate.wait_for(1)
    dockerd.send(signal.SIGSTOP)
    said = until_said(run, "marking run for retry")
    dockerd.send(signal.SIGCONT)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=100)
    assert "the docker daemon does not answer: no answer within 10 s at" in said
    assert gate.most == 1


def until_said(run: subprocess.Popen[str], word: str, timeout_s: float = 500) -> str:
    alarm = threading.Timer(timeout_s, run.kill)
    alarm.start()
    assert run.stderr is not None
    said = ""
    for line in run.stderr:
        said += line
        if word in line:
            break
    alarm.cancel()
    assert word in said, said
    return said
