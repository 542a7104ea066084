"""Small programs, run with this machine's own tools through the real command."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from reflow.disk.controlgroup import usable_cpus
from tests.command import Workspace
from tests.processruns import (
    FAIL,
    TWO_RESULT,
    newest_run,
    run,
    start_long,
    state,
    workspace,
    write,
)
from tests.waiting import wait_until


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


# Results and where they go.


def test_g15_the_result_is_the_only_line_on_stdout(work: Workspace) -> None:
    done = run(work, "two.rf").ok()
    assert done.out == TWO_RESULT + "\n"
    assert re.search(
        r"^reflow:  ->  two\.a        [0-9a-f]{8} exec   exec ubuntu echo hello world", done.err, re.M
    )
    assert re.search(r"^reflow:  <-  two\.b        [0-9a-f]{8} ok     exec \d+s 16B$", done.err, re.M)
    assert "reflow: total n=2 time=" in done.err


def test_r6_a_second_run_computes_nothing(work: Workspace) -> None:
    assert run(work, "-json", "two.rf").ok().json["executed"] == 2
    again = run(work, "-json", "two.rf").ok()
    row = again.json
    assert (row["executed"], row["cached"], row["failed"], row["result"]) == (0, 2, 0, TWO_RESULT)
    assert " ->  " not in again.err


def test_the_object_has_its_keys_and_the_run_its_id(work: Workspace) -> None:
    done = run(work, "-json", "two.rf").ok()
    assert list(done.json) == ["run", "result", "executed", "cached", "failed", "wall_s", "error"]
    assert done.json["run"] == f"sha256:{newest_run(work).stem}"
    assert done.json["error"] is None
    assert done.json["wall_s"] > 0
    assert len(done.out.splitlines()) == 1


def test_results_are_placed_replaced_and_left_alone(work: Workspace) -> None:
    run(work, "-out", "result", "two.rf").ok()
    assert (work.dir / "result/one").read_text() == "hello world\n"
    run(work, "-out", "result", "two.rf", "-who=ann").ok()
    assert (work.dir / "result/one").read_text() == "hello ann\n"
    assert run(work, "-out", "result", "fail.rf").code == 1
    assert (work.dir / "result/one").read_text() == "hello ann\n"


def test_what_was_not_placed_by_us_is_never_replaced(work: Workspace) -> None:
    write(work, "precious", "mine")
    done = run(work, "-out", "precious", "two.rf").failed("precious", "no earlier run placed it")
    assert " ->  " not in done.err
    assert (work.dir / "precious").read_text() == "mine"


def test_local_files_and_directories_are_inputs(work: Workspace) -> None:
    write(work, "in/x", "1")
    write(work, "in/d/y", "2")
    write(work, "in.rf", 'param data = dir("in")\nval f = file("in/x")\nval Main = (f, data)\n')
    assert run(work, "in.rf").ok().out == '(6b86b273, dir("d/y": d4735e3a, "x": 6b86b273))\n'
    run(work, "-out", "copy", "in.rf").ok()
    assert (work.dir / "copy/1/d/y").read_text() == "2"


def test_a_changed_input_is_computed_again_and_an_unchanged_one_is_not(work: Workspace) -> None:
    program = """
val f = file("data")
val Main = exec(image := "x", mem := MiB, cpu := 1) (out file) {" cat {{f}} > {{out}} "}
"""
    write(work, "cat.rf", program)
    write(work, "data", "one\n")
    counts = []
    for text in ("one\n", "one\n", "two\n"):
        write(work, "data", text)
        counts.append(run(work, "-json", "cat.rf").ok().json["executed"])
    assert counts == [1, 0, 1]


def test_r1_an_immediate_main_leaves_nothing_behind(work: Workspace) -> None:
    write(work, "imm.rf", 'val Main = (1, "x")\n')
    assert run(work, "imm.rf").ok().out == '(1, "x")\n'
    assert not (work.state / "runs").exists()
    assert run(work, "-json", "imm.rf").ok().json["run"] is None


# Failures.


def test_r12_a_failed_exec_is_explained_at_the_end(work: Workspace) -> None:
    done = run(work, "fail.rf").failed("docker exec: exited with code 3")
    assert done.out == ""
    tail = done.err[done.err.rindex("reflow: exec sha256:") :]
    match = re.search(r"reflow logs ([0-9a-f]{8})", tail)
    assert match is not None
    for line in ("  command:", "      exit 3", "  end of stderr:", "      to-err", "fail.rf:2:16"):
        assert line in tail
    assert work.reflow("logs", match[1]).ok().out == "to-err\n"
    assert work.reflow("logs", "-stdout", match[1]).ok().out == "to-out\n"


@pytest.mark.parametrize("ending", ["exit 3", "true"])
def test_nothing_starts_after_an_exec_that_failed_or_did_not_write_its_output(
    work: Workspace, ending: str
) -> None:
    body = f'{{" echo {{{{i}}}} >> {{{{log}}}}; {ending}; : {{{{out}}}} "}}'
    work.write(
        "many.rf",
        "param log string\n"
        f'func one(i int) = exec(image := "ubuntu", cpu := {usable_cpus()}) (out file) {body}\n'
        "val Main = [one(i) | i <- range(0, 8)]\n",
    )
    done = run(work, "-json", "many.rf", "-log", f"{work.dir}/ran").failed()
    assert (done.json["executed"], done.json["failed"]) == (1, 1)
    assert len((work.dir / "ran").read_text().splitlines()) == 1


def test_a_failure_is_in_the_object_and_the_state(work: Workspace) -> None:
    done = run(work, "-json", "fail.rf")
    error = done.json["error"]
    assert (done.code, error["kind"], done.json["failed"]) == (1, "DockerExec", 1)
    assert error["message"].endswith("docker exec: exited with code 3")
    assert error["position"].endswith("fail.rf:2:16")
    saved = state(work)
    assert (saved["Phase"], saved["Result"]) == (3, "")
    assert isinstance(saved["Err"], dict)
    assert saved["Err"]["Kind"] == "DockerExec"


@pytest.mark.parametrize(
    ("program", "code", "text"),
    [
        ('val Main = 1 + "a"\n', 1, "bad.rf:1:13: cannot apply binary operator"),
        ('val Main = panic("boom")\n', 1, "panic: boom"),
        ("val X = 1\n", 1, "module has no Main"),
        ('val Main = file("nofile")\n', 1, "nofile"),
    ],
)
def test_errors_before_the_run_are_in_the_object_too(
    work: Workspace, program: str, code: int, text: str
) -> None:
    write(work, "bad.rf", program)
    done = run(work, "-json", "bad.rf").failed(text, code=code)
    assert text.split(": ")[-1] in done.json["error"]["message"]
    assert done.json["run"] is None


def test_r13_a_delayed_panic_is_an_evaluation_error_with_a_caret(work: Workspace) -> None:
    program = """
val a = exec(image := "x", mem := MiB, cpu := 1) (out file) {" echo x > {{out}} "}
val Main = if len(a) == 2 { panic("boom") } else { "fine" }
"""
    write(work, "late.rf", program)
    done = run(work, "late.rf").failed("evaluation error: ", "panic: boom", code=11)
    lines = done.err.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("reflow: evaluation error"))
    assert lines[at + 1].lstrip().startswith("3 | val Main")
    assert "^" in lines[at + 2]


def test_keep_going_runs_what_does_not_depend_on_the_failure(work: Workspace) -> None:
    program = """
func step(n int) = exec(image := "x", mem := MiB, cpu := 1) (out file) {"
	test {{n}} != 1
	echo {{n}} > {{out}}
"}
@requires(cpu := 1)
val Main = [step(n) | n <- [1, 2, 3, 4, 5, 6]]
"""
    write(work, "many.rf", program)
    row = run(work, "-json", "-keep-going", "many.rf").failed("exited with code 1").json
    assert (row["executed"], row["failed"]) == (6, 1)


@pytest.mark.slow
def test_r12_what_may_go_away_is_tried_three_times_a_minute_apart(work: Workspace) -> None:
    write(work, "t.rf", FAIL.replace("exit 3", "exit 75"))
    began_s = time.monotonic()
    done = work.reflow("run", "-executor", "process", "t.rf", timeout_s=240)
    done.failed("marking run for retry after restartable error", code=10)
    assert time.monotonic() - began_s >= 119
    assert done.err.count("marking run for retry") == 3
    assert "runner state 'Retry': retry (last attempt at: " in done.err
    assert state(work)["AttemptNumber"] == 3


# Signals.


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_g14_a_signal_ends_the_exec_and_is_recorded(work: Workspace, number: signal.Signals) -> None:
    process, pid = start_long(work, "-json")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "cleaning up..." in err
    assert not is_alive(pid)
    assert json.loads(out.splitlines()[-1])["error"]["kind"] == "Canceled"
    saved = state(work)
    assert saved["Phase"] == 3
    assert isinstance(saved["Err"], dict)
    assert saved["Err"]["Kind"] == "Canceled"
    assert "total n=" not in err


def test_g14_a_second_signal_ends_everything_at_once(work: Workspace) -> None:
    process, pid = start_long(work)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 1
    process.communicate()
    wait_until(lambda: not is_alive(pid))


def test_a_signal_ends_hashing(work: Workspace) -> None:
    with open(work.dir / "big", "wb") as stream:
        stream.truncate(64 << 30)
    write(work, "big.rf", 'val Main = file("big")\n')
    process = work.start("run", "-executor", "process", "-json", "big.rf")
    assert process.stderr is not None
    for line in process.stderr:
        if "executor:" in line:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 1
    assert process.stdout is not None
    assert json.loads(process.stdout.read())["error"]["kind"] == "Canceled"
    process.communicate()


def test_i4_running_execs_can_be_watched(work: Workspace) -> None:
    process, _ = start_long(work)
    try:
        deadline = time.monotonic() + 10
        while "long.Main" not in (listed := work.reflow("ps").ok().out) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "long.Main" in listed
        task = next(line.split()[0] for line in listed.splitlines() if "long.Main" in line)
        # The output of an exec can be followed once it has run for about a second.
        while not (shown := work.reflow("logs", "-stdout", task).ok().out) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert shown == "begin\n"
        follower = work.start("logs", "-f", "-stdout", task)
        assert follower.stdout is not None
        assert follower.stdout.readline() == "begin\n"
        process.send_signal(signal.SIGINT)
        out, _ = follower.communicate(timeout=30)
        assert (follower.returncode, out) == (0, "")
        assert work.reflow("logs", "-stdout", task).ok().out == "begin\n"
    finally:
        process.kill()
        process.communicate()
