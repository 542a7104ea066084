"""What all tests share: fresh homes, and what to do where something real is missing.

A test that needs a Docker daemon, bubblewrap, a registry or a server is skipped where there is none. With
``REFLOW_NO_SKIP=1`` (as CI sets it, after bringing everything up) a skipped test fails the session: a skip is
not a pass.
"""

from __future__ import annotations

import os
import socket
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from tests import servers
from tests.processes import new_doze

# No test is timed: the machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

DOCKER_IMAGES = ("ubuntu:latest", "alpine:latest")


@cache
def missing_for_docker() -> str:
    """Say what a docker test lacks here; nothing when all is there."""
    try:
        have = subprocess.run(
            ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return f"no docker: {err}"
    if have.returncode:
        return f"no docker daemon: {have.stderr.strip()}"
    absent = [image for image in DOCKER_IMAGES if image not in have.stdout.split()]
    return f"no image {', '.join(absent)}" if absent else ""


@cache
def missing_for_sandbox() -> str:
    """Say what a sandbox test lacks here; nothing when all is there."""
    from reflow.executor.sandbox_trial import try_bubblewrap
    from reflow.imagestore.store import ImageStore
    from tests.execs import IMAGES

    if ImageStore(str(IMAGES)).find("ubuntu") is None and missing_for_docker():
        return f"no image ubuntu in {IMAGES}, and {missing_for_docker()}"
    return try_bubblewrap().trouble


@cache
def missing_for_registry() -> str:
    """Say what a test of real registries lacks here; nothing when all is there."""
    for name, port in (("REGISTRY", 5000), ("REGISTRY_AUTH", 5001)):
        host, _, number = os.environ.get(name, f"localhost:{port}").partition(":")
        try:
            socket.create_connection((host, int(number)), timeout=5).close()
        except OSError as err:
            return f"no registry at {host}:{number} (registry-up --auth starts it): {err}"
    return ""


SERVERS = {
    "aws": (servers.MOTO, "aws-up"),
    "dynamodb": (servers.DYNAMODB, "dynamodb-up"),
    "s3": (servers.S3, "s3-up"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark, server in SERVERS.items():
            if item.get_closest_marker(mark) and servers.missing(*server):
                item.add_marker(pytest.mark.skip(reason=servers.missing(*server)))
        if item.get_closest_marker("registry") and missing_for_registry():
            item.add_marker(pytest.mark.skip(reason=missing_for_registry()))
        if item.get_closest_marker("sandbox") and missing_for_sandbox():
            item.add_marker(pytest.mark.skip(reason=missing_for_sandbox()))
        if item.get_closest_marker("docker") and missing_for_docker():
            item.add_marker(pytest.mark.skip(reason=missing_for_docker()))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("REFLOW_NO_SKIP"):
        return
    skipped = len(reporter.stats.get("skipped", []))
    if skipped and exitstatus == 0:
        reporter.write_line(f"{skipped} tests were skipped, and REFLOW_NO_SKIP is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def reflow_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh ``REFLOW_HOME`` (and ``HOME``) for this test and the processes it starts."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("REFLOW_HOME", str(home / ".reflow"))
    return home / ".reflow"


@pytest.fixture
def doze() -> str:
    """A command that takes a day, and that nobody else has."""
    return new_doze()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is the working directory, of a user whose Reflow is this one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return tmp_path
