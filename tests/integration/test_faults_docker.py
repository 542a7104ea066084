"""The Docker daemon goes away, or restarts, while an exec runs."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Workspace
from tests.daemons import DaemonProxy, Gate, begin, gated

pytestmark = pytest.mark.docker


@pytest.fixture
def proxy() -> Iterator[DaemonProxy]:
    with tempfile.TemporaryDirectory() as directory:  # the path of a socket must be short
        made = DaemonProxy(Path(directory) / "docker.sock")
        yield made
        made.thaw()
        made.cut()


@pytest.fixture
def work(tmp_path: Path, gate: Gate) -> Workspace:
    return gated(tmp_path, gate)


def test_docker_daemon_unreachable_for_a_moment_the_exec_succeeds_and_never_runs_twice_at_once(
    work: Workspace, proxy: DaemonProxy, gate: Gate
) -> None:
    child = begin(work, proxy)
    gate.wait_for(1)
    proxy.cut()
    proxy.restore()
    gate.open()
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    assert '"executed": 1' in out
    assert gate.most == 1


def test_docker_daemon_gone_is_named_nothing_is_cached_and_the_next_run_succeeds(
    work: Workspace, proxy: DaemonProxy, gate: Gate
) -> None:
    child = begin(work, proxy)
    gate.wait_for(1)
    proxy.cut()
    alarm = threading.Timer(120, child.kill)
    alarm.start()
    assert child.stderr is not None
    lines = []
    for line in child.stderr:
        lines.append(line)
        if "marking run for retry" in line:
            break
    said = "".join(lines)
    assert "docker daemon" in said
    assert "Traceback" not in said
    child.send_signal(signal.SIGINT)
    _, rest = child.communicate(timeout=120)
    alarm.cancel()
    assert child.returncode == 1, said + rest
    assert "Traceback" not in rest
    gate.open()
    proxy.restore()
    done = work.reflow("run", "-executor", "docker", "-json", "p.rf", DOCKER_HOST=proxy.host).ok()
    assert done.json["cached"] == 0
    assert gate.most == 1


@pytest.mark.parametrize("request_words", [b"/containers/create", b"/start ", b"/wait ", b"DELETE "])
def test_docker_daemon_frozen_in_a_call_an_interrupted_run_ends_and_names_what_may_be_left(
    work: Workspace, proxy: DaemonProxy, gate: Gate, request_words: bytes
) -> None:
    """A call may take two minutes; nobody waits that long for the end of an interrupted run."""
    proxy.freeze(request_words)
    child = begin(work, proxy)
    if request_words == b"DELETE ":
        gate.open()
    assert proxy.frozen.wait(60)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=90)
    assert child.returncode == 1
    assert "Traceback" not in err
    assert f"docker at {proxy.path} did not answer; containers may be left: " in err
    (left,) = re.findall(r"may be left: (\S+); the next run here removes them", err)
    proxy.thaw()
    gate.open()
    done = work.reflow("run", "-executor", "docker", "-json", "p.rf", DOCKER_HOST=proxy.host).ok()
    assert done.json["executed"] + done.json["cached"] == 1
    assert not has_container(left)


def test_docker_daemon_frozen_a_second_signal_ends_the_run_at_once(
    work: Workspace, proxy: DaemonProxy, gate: Gate
) -> None:
    proxy.freeze(b"/start ")
    child = begin(work, proxy)
    assert proxy.frozen.wait(60)
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    while "cleaning up..." not in child.stderr.readline():
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "may be left" not in err, "it did not end at once"
    proxy.thaw()
    gate.open()
    work.reflow("run", "-executor", "docker", "-json", "p.rf", DOCKER_HOST=proxy.host).ok()


def has_container(name: str) -> bool:
    words = ["docker", "container", "inspect", name]
    return not subprocess.run(words, capture_output=True, check=False).returncode
