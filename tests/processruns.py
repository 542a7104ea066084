"""Runs of small programs with this machine's own tools, and what they leave."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.command import Done, Workspace
from tests.waiting import wait_until

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


def workspace(root: Path) -> Workspace:
    """A working directory with the small programs."""
    made = Workspace(root)
    made.env.update(USER="tester", TZ="UTC")
    write(made, "two.rf", TWO)
    write(made, "fail.rf", FAIL)
    return made


def write(work: Workspace, name: str, text: str) -> None:
    """Write a file of the working directory."""
    path = work.dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(work: Workspace, *words: str, **env: str) -> Done:
    """Do ``reflow run WORDS`` to its end."""
    return work.reflow("run", "-executor", "process", *words, **env)


def newest_run(work: Workspace) -> Path:
    """The state of the run that began last."""
    return max((work.state / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)


def state(work: Workspace) -> dict[str, object]:
    """What that says."""
    loaded = json.loads(newest_run(work).read_text())
    assert isinstance(loaded, dict)
    return loaded


def start_long(work: Workspace, *words: str) -> tuple[subprocess.Popen[str], int]:
    """Start a run; return it and the process id of its exec."""
    pidfile = work.dir / "pid"
    write(work, "long.rf", LONG.replace("PIDFILE", str(pidfile)))
    process = work.start("run", "-executor", "process", *words, "long.rf")
    wait_until(lambda: pidfile.exists() and pidfile.read_text().strip())
    return process, int(pidfile.read_text())
