"""Whose directory it is, and an end that was wanted."""

from __future__ import annotations

import os
from pathlib import Path

from reflow.core.digest import Digest
from reflow.core.errors import Kind
from reflow.executor.execdir import KILLED, Tenant, acquire, is_locked, tenant_of
from reflow.executor.outcome import Ending, failure

ID = Digest.of_text("exec")


def test_a_tenant_is_read_while_it_lives_and_afterwards(tmp_path: Path) -> None:
    path = str(tmp_path / "execs" / "a")
    assert tenant_of(path) is None
    directory = acquire(path)
    assert directory is not None
    assert tenant_of(path) is None
    directory.note(Tenant(ID.hex(), os.getpid(), "process", 0))
    directory.note(Tenant(ID.hex(), os.getpid(), "process", 4_194_304))
    assert tenant_of(path) == Tenant(ID.hex(), os.getpid(), "process", 4_194_304)
    assert is_locked(path)
    directory.note(Tenant(ID.hex(), 1, "docker", 0))
    assert tenant_of(path) == Tenant(ID.hex(), 1, "docker", 0)
    directory.keep("failed", "false")
    assert not is_locked(path)
    assert tenant_of(path) == Tenant(ID.hex(), 1, "docker", 0)


def test_an_end_that_was_wanted_is_no_lack_of_memory(tmp_path: Path) -> None:
    logs = {stream: str(tmp_path / stream) for stream in ("stdout", "stderr")}
    for code in (137, 143):
        error = failure(ID, Ending(code, "docker", is_wanted=True), logs, "docker")
        assert error is not None
        assert (error.kind, str(error)) == (
            Kind.DOCKER_EXEC,
            f"exec {ID}: docker exec: killed by reflow kill",
        )
    assert failure(ID, Ending(0, is_wanted=True), logs, "docker") is None


def test_the_wish_is_a_file(tmp_path: Path) -> None:
    directory = acquire(str(tmp_path / "a"))
    assert directory is not None
    assert not directory.is_killed
    (tmp_path / "a" / KILLED).touch()
    assert directory.is_killed
    directory.remove()
