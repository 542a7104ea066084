"""What runs with this machine's own tools leave, their modes, and the machine around them."""

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
from tests.command import Workspace
from tests.processruns import (
    LONG,
    TWO_RESULT,
    newest_run,
    run,
    state,
    workspace,
    write,
)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


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
