"""What commands print without containers: all of it is in their logs, whatever they do, whoever is gone."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.command import Workspace
from tests.processes import new_doze, processes_with
from tests.waiting import wait_until

PROGRAM = """
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 0.5) (out file) {"
	SCRIPT
	echo done > {{out}}
"}
"""
MUCH = "seq 1000001 1200000"
MUCH_BYTES = 1600000


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def start(work: Workspace, script: str) -> subprocess.Popen[str]:
    work.write("main.rf", PROGRAM.replace("SCRIPT", script))
    return work.start("run", "-executor", "process", "main.rf")


def output(work: Workspace, stream: str) -> bytes:
    """What is in the log of the only exec, which may have another name in every run."""
    paths = list((work.state / "local/logs").glob(f"*/*.{stream}"))
    assert len({path.stat().st_ino for path in paths}) == 1
    return paths[0].read_bytes()


def ended(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return err


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_writing_to_a_stream_by_its_name_loses_nothing(work: Workspace, stream: str) -> None:
    name = f"/dev/{stream}"
    ended(start(work, f"exec 3> {name}; echo a >&3; echo b > {name}; tee {name} <<<c >{name}; echo d >&3"))
    assert output(work, stream) == b"a\nb\nc\nc\nd\n"
    assert len(list((work.state / "local/logs").glob("*/*"))) == 1, "a stream without output has no file"


def test_what_a_failed_exec_printed_is_in_its_directory_too(work: Workspace) -> None:
    work.write("main.rf", PROGRAM.replace("SCRIPT", "echo a >&2; echo b > /dev/stderr; exit 3"))
    work.reflow("run", "-executor", "process", "main.rf").failed("exited with code 3")
    (kept,) = (work.state / "local/execs").iterdir()
    assert (kept / "stderr").read_bytes() == output(work, "stderr") == b"a\nb\n"


def test_output_of_megabytes(work: Workspace) -> None:
    ended(start(work, f"{MUCH}; {MUCH} >&2"))
    wanted = "".join([f"{number}\n" for number in range(1000001, 1200001)]).encode()
    assert output(work, "stdout") == output(work, "stderr") == wanted


def test_what_is_printed_is_seen_at_once(work: Workspace) -> None:
    go = work.dir / "go"
    process = start(work, f"echo first; while ! test -e {go}; do sleep 0.02; done; echo second")
    wait_until(lambda: list((work.state / "local/logs").glob("*/*.stdout")))
    wait_until(lambda: output(work, "stdout"))
    assert output(work, "stdout") == b"first\n"
    go.touch()
    ended(process)
    assert output(work, "stdout") == b"first\nsecond\n"


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_run_that_is_stopped_or_dead_holds_no_command_up(work: Workspace, number: signal.Signals) -> None:
    begun, go, finished = (work.dir / name for name in ("begun", "go", "finished"))
    wait = f"touch {begun}; while ! test -e {go}; do sleep 0.02; done"
    process = start(work, f"{wait}; {MUCH}; {MUCH} >&2; touch {finished}")
    wait_until(begun.exists)
    process.send_signal(number)
    go.touch()
    wait_until(finished.exists)
    if number == signal.SIGKILL:
        process.communicate()
        process = work.start("run", "-executor", "process", "main.rf")
    process.send_signal(signal.SIGCONT)
    ended(process)
    assert len(output(work, "stdout")) == len(output(work, "stderr")) == MUCH_BYTES


def test_a_process_that_escapes_does_not_hold_its_exec_up(work: Workspace) -> None:
    doze = new_doze()
    ended(start(work, f"echo a; setsid {doze} & while ! pgrep -f '^{doze}' >/dev/null; do sleep 0.02; done"))
    assert output(work, "stdout") == b"a\n"
    assert processes_with(doze) == [], "it ends with the run"


def test_streams_that_a_command_closes_early(work: Workspace) -> None:
    ended(start(work, "echo a; exec >&- 2>&-; sleep 0.3"))
    assert output(work, "stdout") == b"a\n"
