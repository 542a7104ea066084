"""Memory that runs out, with real programs, in every executor: it is named, and tried again with more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command import Done, Workspace

pytestmark = pytest.mark.slow

EXECUTORS = [
    pytest.param("process", id="process"),
    pytest.param("docker", id="docker", marks=pytest.mark.docker),
    pytest.param("sandbox", id="sandbox", marks=[pytest.mark.sandbox, pytest.mark.docker]),
]

PROGRAM = """
param size int

val Main = exec(image := "python:3", mem := 500*MiB, cpu := 1) (out file) {"
	python3 > {{out}} <<-END
		import time
		table = [bytearray(1 << 20) for _ in range({{size}})]
		time.sleep(2.5)
		print(len(table))
	END
"}
"""


def run(tmp_path: Path, executor: str, size_mib: int) -> Done:
    work = Workspace(tmp_path)
    work.write("hungry.rf", PROGRAM)
    words = ["-docker", "docker,memlimit=hard", "run", "-executor", executor, "-json", "hungry.rf"]
    return work.reflow(*words, "-size", str(size_mib), timeout_s=200)


def amounts(done: Done) -> list[str]:
    """The memory of each further try."""
    return re.findall(r"re-submitting task with (\S+) of memory", done.err)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_program_that_needs_three_times_what_it_asked_for_succeeds(tmp_path: Path, executor: str) -> None:
    done = run(tmp_path, executor, 1400).ok()
    assert done.json["executed"] == 1
    assert amounts(done) == ["750.0MiB", "1.1GiB", "1.6GiB"]
    assert "reason: OOM" in done.err
    assert "killed by OOM killer" in done.err


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_program_that_never_fits_fails_and_says_why(tmp_path: Path, executor: str) -> None:
    done = run(tmp_path, executor, 2200).failed("killed by OOM killer", "hungry.Main")
    assert done.json["error"]["kind"] == "OOM"
    assert (done.json["failed"], len(amounts(done))) == (1, 3)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_fits_is_not_killed_and_its_profile_says_so(tmp_path: Path, executor: str) -> None:
    done = run(tmp_path, executor, 300).ok()
    assert amounts(done) == []
    (row,) = re.findall(r"mem mean=\S+ max=(\d+)\S*MiB", done.err)
    assert 290 <= int(row) <= 450
