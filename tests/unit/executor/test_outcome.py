"""Exit codes and output -> error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind
from reflow.executor.oom import was_killed
from reflow.executor.outcome import Ending, failure, read_signs

ID = Digest.of(b"id")


@pytest.fixture
def logs(tmp_path: Path) -> dict[str, str]:
    return {"stdout": str(tmp_path / "o"), "stderr": str(tmp_path / "e")}


@pytest.mark.parametrize(
    ("ending", "kind", "text"),
    [
        (Ending(75), Kind.TEMPORARY, "exec returned exit code 75 (considered temporary)"),
        (Ending(75, "docker"), Kind.TEMPORARY, "exec returned exit code 75 (considered temporary)"),
        (Ending(1, "docker"), Kind.OOM, "killed by OOM killer (docker)"),
        (Ending(137), Kind.OOM, "docker returned possible OOM exit code 137"),
        (Ending(1), Kind.DOCKER_EXEC, "exited with code 1"),
        (Ending(143, "", 15), Kind.DOCKER_EXEC, "exited with code 143 (killed by SIGTERM)"),
        (Ending(139), Kind.DOCKER_EXEC, "exited with code 139 (as by SIGSEGV)"),
        (Ending(255), Kind.DOCKER_EXEC, "exited with code 255"),
    ],
)
def test_table_of_exit_codes(ending: Ending, kind: Kind, text: str, logs: dict[str, str]) -> None:
    error = failure(ID, ending, logs, "docker")
    assert error is not None
    assert (error.kind, error.cause) == (kind, text)


def test_exit_code_0_is_no_failure(logs: dict[str, str]) -> None:
    assert failure(ID, Ending(0), logs, "docker") is None


@pytest.mark.parametrize("sign", ["runtime: out of memory", "runtime: cannot allocate memory"])
def test_go_says_that_memory_ran_out(sign: str, logs: dict[str, str]) -> None:
    Path(logs["stdout"]).write_text(f"fine\nfatal error: {sign}\n")
    error = failure(ID, Ending(2), logs, "docker")
    assert error is not None
    assert (error.kind, error.cause) == (Kind.OOM, "detected golang OOM error")


def test_hints_are_stderr_first_with_line_numbers(logs: dict[str, str]) -> None:
    Path(logs["stdout"]).write_text("ERROR a\nfine\n")
    Path(logs["stderr"]).write_bytes(b"ok\npanic: \xff\nError: c\n")
    assert read_signs(logs).hints == [
        "(stderr) line 2: panic: \N{REPLACEMENT CHARACTER}",
        "(stderr) line 3: Error: c",
        "(stdout) line 1: ERROR a",
    ]


def test_hints_are_bounded(logs: dict[str, str]) -> None:
    line = "error " + "x" * 2000 + "\n"
    Path(logs["stderr"]).write_text(line * 5000)
    hints = read_signs(logs).hints
    assert len(hints) == 20
    assert hints[-1].startswith("(stderr) line 5000: error xxx")
    assert max(map(len, hints)) < 450


@pytest.mark.parametrize(
    "words",
    [
        "Out of memory: Killed process 4242 (tool) total-vm:1kB",
        "Out of memory: Kill process 4242 (tool) score 9 or sacrifice child",
        "Memory cgroup out of memory: Killed process 4242 (tool), UID 0",
    ],
)
def test_the_kernel_says_whom_it_killed(tmp_path: Path, words: str) -> None:
    import time

    boot_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    kmsg = tmp_path / "kmsg"
    kmsg.write_text(f"6,1,50000000,-;usb connected\n3,2,100000000,-;{words}\n continuation\n")
    when_s = boot_s + 100
    assert was_killed({1, 4242}, when_s - 5, when_s + 5, str(kmsg)) == "kernel, process 4242"
    assert was_killed({1, 2}, when_s - 5, when_s + 5, str(kmsg)) == ""
    assert was_killed({4242}, when_s + 5, when_s + 10, str(kmsg)) == ""
    assert was_killed({4242}, when_s - 5, when_s + 5, str(tmp_path / "none")) == ""


def test_no_process_is_nothing_to_look_for() -> None:
    assert was_killed(set(), 0, 1, os.devnull) == ""
