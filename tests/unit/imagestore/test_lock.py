"""Locks between processes, and work that goes with its owner."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reflow.imagestore import lock
from reflow.imagestore.failure import StoppedError
from reflow.imagestore.job import Job


def test_one_has_it_or_many_share_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first, second = lock.take(path, shared=True), lock.take(path, shared=True)
    assert first is not None
    assert second is not None
    assert lock.take(path) is None
    first.release()
    second.release()
    alone = lock.take(path)
    assert alone is not None
    assert lock.take(path, shared=True) is None
    alone.release()
    alone.release()


def test_a_lock_whose_file_was_removed_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    old = lock.take(path)
    assert old is not None
    os.unlink(path)
    new = lock.take(path)
    assert new is not None
    assert lock.take(path) is None
    old.release()
    new.release()


def test_waiting_tells_and_can_be_stopped(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = lock.take(path)
    assert held is not None
    told: list[str] = []
    job = Job(lambda what, *_: told.append(what))
    threading.Timer(0.3, job.stop).start()
    with pytest.raises(StoppedError):
        lock.wait(path, job, "waiting")
    assert told == ["waiting"] * len(told)
    threading.Timer(0.2, held.release).start()
    lock.wait(path, Job(), "waiting").release()


def test_work_goes_with_its_block(tmp_path: Path) -> None:
    with lock.work_directory(str(tmp_path / "tmp")) as work:
        assert os.stat(work).st_mode & 0o777 == 0o700
        Path(work, "x").mkdir()
        lock.sweep(str(tmp_path / "tmp"))
        assert os.path.isdir(f"{work}/x"), "its owner lives"
    assert list((tmp_path / "tmp").iterdir()) == []


DIE = """
import os, sys
from reflow.imagestore import lock
with lock.work_directory(sys.argv[1]) as work:
    os.makedirs(work + "/a/b")
    os._exit(0)
"""


def test_work_of_the_dead_is_swept_away(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIE, str(tmp_path)], check=True)
    assert len(list(tmp_path.iterdir())) == 2
    lock.sweep(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_without_locks_nobody_is_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with lock.work_directory(str(tmp_path)) as work:
        held = lock.take(f"{work}.lock")
        assert held is not None
        assert not held.is_real
        lock.sweep(str(tmp_path))
        assert os.path.isdir(work)
        then = time.time() - 10 * 86400
        os.utime(f"{work}.lock", (then, then))
        lock.sweep(str(tmp_path))
        assert not os.path.exists(work)
        held.release()
