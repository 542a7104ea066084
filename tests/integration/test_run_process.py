"""Small programs, run with this machine's own tools through the real command."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests import servers
from tests.command import Done, Workspace

TWO = """
param who = "world"
val a = exec(image := "ubuntu", mem := 500*MiB, cpu := 1) (out file) {"
	echo hello {{who}} > {{out}}
"}
val b = exec(image := "ubuntu", mem := 500*MiB, cpu := 1) (out dir) {"
	cp {{a}} {{out}}/one
	echo two > {{out}}/two
	echo to-stderr >&2
	echo to-stdout
"}
val Main = b
"""
TWO_RESULT = 'dir("one": a948904f, "two": 27dd8ed4)'
FAIL = """
val Main = exec(image := "ubuntu", mem := GiB, cpu := 1) (out file) {"
	echo to-out
	echo to-err >&2
	exit 3
"}
"""
LONG = """
val Main = exec(image := "ubuntu", mem := GiB, cpu := 1) (out file) {"
	echo begin
	echo $$ > PIDFILE
	sleep 600
"}
"""


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.env.update(USER="tester", TZ="UTC")
    write(made, "two.rf", TWO)
    write(made, "fail.rf", FAIL)
    return made


def write(work: Workspace, name: str, text: str) -> None:
    path = work.dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(work: Workspace, *words: str, **env: str) -> Done:
    return work.reflow("run", "-executor", "process", *words, **env)


def newest_run(work: Workspace) -> Path:
    return max((work.state / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)


def state(work: Workspace) -> dict[str, object]:
    loaded = json.loads(newest_run(work).read_text())
    assert isinstance(loaded, dict)
    return loaded


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


def start_long(work: Workspace, *words: str) -> tuple[subprocess.Popen[str], int]:
    """Start a run; return it and the process id of its exec."""
    pidfile = work.dir / "pid"
    write(work, "long.rf", LONG.replace("PIDFILE", str(pidfile)))
    process = work.start("run", "-executor", "process", *words, "long.rf")
    deadline = time.monotonic() + 30
    while not (pidfile.exists() and pidfile.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return process, int(pidfile.read_text())


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
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)


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


# Files and records of a run.


def test_r3_the_files_of_a_run(work: Workspace) -> None:
    run(work, "two.rf", "-who=ann").ok()
    base = newest_run(work).with_suffix("")
    saved = state(work)
    assert saved["ID"] == f"sha256:{base.name}"
    assert saved["Program"] == str(work.dir / "two.rf")
    assert (saved["Params"], saved["Args"], saved["Phase"], saved["Err"]) == (
        {"who": "ann"},
        ["-who=ann"],
        3,
        None,
    )
    log = base.with_suffix(".runlog").read_text()
    assert re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[INFO\] reflow version: ", log)
    assert f"[INFO] run ID: {base.name[:8]}\n" in log
    assert "[INFO] result: dir(" in log
    assert "[DEBUG] " in log
    graph = base.with_suffix(".gv").read_text()
    assert '-exec-two.a" [' in graph
    assert oct(base.with_suffix(".json").stat().st_mode & 0o777) == "0o600"
    assert base.with_suffix(".bak").exists()
    assert base.with_suffix(".lock").read_bytes() == b""


def test_r16_a_run_is_told_of_afterwards(work: Workspace) -> None:
    run(work, "two.rf").ok()
    id = newest_run(work).stem
    told = work.reflow("info", id[:8]).ok().out
    assert told.startswith(f"{id} (run)\n")
    assert re.search(r"^    result:\s+dir\(", told, re.M)
    assert re.search(r"^runid\s+user\s+start\s+end\s+cost\s+RunLog", told, re.M)
    listed = work.reflow("ps", "-i").ok().out
    row = re.search(r"^    ([0-9a-f]{8})\s+([0-9a-f]{8})\s+1\s+two\.b\s+<unknown>", listed, re.M)
    assert row is not None
    assert work.reflow("ps").ok().out == ""
    assert work.reflow("ps", "-i", "-u", "somebody-else").ok().out == ""
    assert work.reflow("info", row[1]).ok().out.lstrip().startswith("taskid")
    value = work.reflow("info", row[2]).ok().out
    assert value.splitlines()[0].endswith(" (cached fileset)")
    assert "        two: sha256:27dd8ed4" in value
    runlog = re.search(r"^[0-9a-f]{8}\s+tester\s+\S+\s+\S+\s+<unknown>\s+([0-9a-f]{8})", listed, re.M)
    assert runlog is not None
    assert "run ID: " in work.reflow("cat", runlog[1]).ok().out


def test_i4_the_log_of_a_run_is_printed_by_level(work: Workspace) -> None:
    run(work, "fail.rf")
    id = newest_run(work).stem
    info = work.reflow("logs", id[:8]).ok().out
    assert info.startswith(f"Using local runlog file {work.state}/runs/{id}.runlog\n")
    assert "[INFO]" not in info
    assert re.search(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d run ID: ", info, re.M)
    errors = work.reflow("logs", "-level=error", id).ok().out
    assert "exited with code 3" in errors
    assert "run ID" not in errors


def test_i9_objects_are_printed(work: Workspace) -> None:
    run(work, "two.rf").ok()
    assert work.reflow("cat", "27dd8ed4", "a948904f").ok().out == "two\nhello world\n"
    assert work.reflow("cat", "a948904f", "deadbeef").failed("stat deadbeef").out == ""
    assert work.reflow("info", "a948904f").ok().out.endswith("(file)\n    size: 12\n")
    assert "objects" in work.reflow("du").ok().out


# Modes.


def test_r7_cache_modes(work: Workspace) -> None:
    def executed(mode: str) -> object:
        return (
            work.reflow(f"-cache={mode}", "run", "-executor", "process", "-json", "two.rf")
            .ok()
            .json["executed"]
        )

    assert [executed(mode) for mode in ("off", "read", "write", "read", "off", "write", "readwrite")] == [
        2,
        2,
        2,
        0,
        2,
        2,
        0,
    ]


def test_r8_invalidated_nodes_are_computed_again(work: Workspace) -> None:
    run(work, "two.rf").ok()
    done = run(work, "-invalidate=two\\.b", "two.rf").ok()
    assert " ->  two.b " in done.err
    assert " ->  two.a " not in done.err


def test_r6_bottom_up_shows_what_came_from_the_cache(work: Workspace) -> None:
    run(work, "two.rf").ok()
    done = run(work, "-eval=bottomup", "two.rf").ok()
    assert "(<-) two.a " in done.err
    assert "(<-) two.b " in done.err


def test_g8_log_levels(work: Workspace) -> None:
    quiet = work.reflow("-log=error", "run", "-executor", "process", "two.rf").ok()
    assert quiet.err == ""
    silent = work.reflow("-log=off", "run", "-executor", "process", "fail.rf")
    assert (silent.code, silent.err) == (1, "")
    dated = work.reflow("-log=debug", "run", "-executor", "process", "two.rf").ok()
    assert re.search(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d run ID: ", dated.err, re.M)
    assert "reflow: " not in dated.err


def test_r10_inputs_are_hashed_again_when_asked(work: Workspace) -> None:
    write(work, "data", "one\n")
    program = """
val f = file("data")
val Main = exec(image := "x", mem := MiB, cpu := 1) (out file) {" cat {{f}} > {{out}} "}
"""
    write(work, "cat.rf", program)
    done = run(work, "-postusechecksum", "cat.rf").ok()
    assert "postusechecksum" in done.err


def test_named_executors_and_clusters_never_fall_back(work: Workspace) -> None:
    run(work, "-executor=nosuch", "two.rf").failed("invalid -executor nosuch", "usage: reflow run", code=2)
    config = work.state / "config.yaml"
    config.parent.mkdir()
    config.write_text("cluster: ec2cluster\n")
    run(work, "two.rf").failed("not supported yet: cluster: ec2cluster")
    run(work, "-local", "two.rf").ok()
    work.env |= servers.environment(s3="http://127.0.0.1:1")
    config.write_text("repository: s3,bucket=b\n")
    run(work, "two.rf").failed("s3.bucket b: network error", code=10)


def test_two_runs_at_once_are_both_right(work: Workspace) -> None:
    both = [work.start("run", "-executor", "process", "two.rf") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, TWO_RESULT + "\n"), err


# Surroundings.


def test_a_home_that_cannot_be_written_is_explained(work: Workspace) -> None:
    write(work, "imm.rf", "val Main = 1\n")
    write(work, "home-is-a-file", "")
    home = str(work.dir / "home-is-a-file")
    assert work.reflow("version", REFLOW_HOME=home).ok().out
    assert work.reflow("check", "imm.rf", REFLOW_HOME=home).ok().err == ""
    assert work.reflow("doc", "imm.rf", REFLOW_HOME=home).ok().out
    assert run(work, "imm.rf", REFLOW_HOME=home).ok().out == "1\n"
    run(work, "two.rf", REFLOW_HOME=home).failed("REFLOW_HOME")


def test_nobody_needs_to_read_to_the_end(work: Workspace) -> None:
    run(work, "two.rf").ok()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            work.argv("cat", "27dd8ed4"),
            env=work.env,
            cwd=work.dir,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


def test_g11_on_a_terminal_progress_is_drawn_below_the_messages(work: Workspace) -> None:
    write(work, "slow.rf", LONG.replace("echo $$ > PIDFILE", "").replace("600", "1.5; echo x > {{out}}"))
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        work.argv("run", "-executor", "process", "slow.rf"),
        cwd=work.dir,
        env={**work.env, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=follower,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    os.close(follower)
    seen = b""
    while True:
        if not select.select([leader], [], [], 30)[0]:
            break
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    out, _ = process.communicate(timeout=30)
    os.close(leader)
    text = seen.decode()
    assert process.returncode == 0, text
    assert re.fullmatch(r"[0-9a-f]{8}\n", out)
    assert re.search(r"[0-9a-f]{8}: elapsed: \d+s", text)
    assert re.search(r"  slow\.Main:  exec ubuntu echo begin", text)
    assert "\x1b[1A\x1b[2K" in text


def test_g12_the_process_can_be_looked_at(work: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        work.reflow("-http", address, "version").failed(f"listen tcp {address}: address already in use")
    write(work, "slow.rf", LONG.replace("echo $$ > PIDFILE", ""))
    process = work.start("-http", address, "run", "-executor", "process", "slow.rf")
    try:
        status, deadline = "", time.monotonic() + 20
        while "slow.Main:  exec ubuntu" not in status and time.monotonic() < deadline:
            time.sleep(0.1)
            with contextlib.suppress(OSError):
                status = fetch(address, "/debug/status")
        assert "slow.Main:  exec ubuntu" in status
        assert json.loads(fetch(address, "/debug/vars"))["execs"]["Executed"] == 1
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def fetch(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def test_g13_profiles_are_written_on_failure_too(work: Workspace) -> None:
    flags = ["-cpuprofile=cpu.prof", "-memprofile=mem.prof", "-memstatsduration=10ms", "-memstatsgc"]
    done = work.reflow(*flags, "check", "nofile.rf").failed("nofile.rf: no such file or directory")
    assert (work.dir / "cpu.prof").stat().st_size > 0
    assert " B in " in (work.dir / "mem.prof").read_text()
    assert (
        (work.dir / "memstats.csv").read_text().startswith("Sys, StackInuse, StackSys, HeapInuse, HeapSys\n")
    )
    assert "(post GC)" in done.err


def test_the_start_imports_no_more_than_it_needs(work: Workspace) -> None:
    write(work, "imm.rf", "val Main = 1\n")

    def loaded(*words: str) -> set[str]:
        code = (
            "import sys, os, atexit; sys.argv = ['reflow', *sys.argv[1:]]\n"
            "os._exit = lambda status: None\n"
            "from reflow.cli.main import main; main()\n"
            "sys.stdout.flush(); print(' '.join(sys.modules), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-S", "-c", code, *words],
            cwd=work.dir,
            env={**work.env, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return set(done.stderr.split())

    assert not loaded("version") & {"re", "dataclasses", "enum", "yaml", "importlib.metadata", "argparse"}
    heavy = {"asyncio", "yaml", "sqlite3", "docker", "logging", "lark", "threading", "subprocess"}
    assert not loaded("run", "imm.rf") & heavy
