"""The Docker daemon goes away, or restarts, while an exec runs."""

from __future__ import annotations

import signal
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
