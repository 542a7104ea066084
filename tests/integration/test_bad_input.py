"""Bad input of every kind: one clear message, the right status, nothing half-written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Workspace

HEAD = 'exec(image := "ubuntu", mem := 100*MiB, cpu := 1)'


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def one(script: str, outputs: str = "out file") -> str:
    return f'val Main = {HEAD} ({outputs}) {{" {script} "}}\n'


@pytest.mark.parametrize(
    ("program", "code", "texts"),
    [
        ("val Main = (1\n", 1, ["p.rf:2:1: syntax error: unexpected ';'", "1 | val Main = (1", "^"]),
        (
            'val Main = 1 + "a"\n',
            1,
            ['p.rf:1:13: cannot apply binary operator "+" to type int and string', "^"],
        ),
        ("val Man = 1\n", 1, ["module has no Main"]),
        ("param n int\nval Main = n\n", 1, ["missing mandatory flag -n", "p.rf"]),
        ('val Main = file("absent.txt")\n', 1, ["open absent.txt: no such file or directory"]),
        ('val Main = make("./absent.rf").X\n', 1, ["failed to open module", "absent.rf"]),
        ("val Main = 1 / 0\n", 1, ["p.rf:1:13: ", "division by zero"]),
        (
            "val x = unknwn\nval unknown = 2\nval Main = 1\n",
            1,
            ['p.rf:1:15: identifier "unknwn" not defined'],
        ),
    ],
)
def test_r14_programs_that_cannot_be(work: Workspace, program: str, code: int, texts: list[str]) -> None:
    work.write("p.rf", program)
    work.reflow("run", "p.rf").failed(*texts, code=code)
    assert not (work.state / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "texts"),
    [
        (["run"], 2, ["usage: reflow run"]),
        (["run", "absent.rf"], 1, ["open", "absent.rf", "no such file or directory"]),
        (["run", "p.txt"], 1, ['unknown file extension ".txt"']),
        (["run", "-nosuch", "p.rf"], 2, ["flag provided but not defined: -nosuch"]),
        (["run", "p.rf", "-nosuch"], 1, ["flag provided but not defined: -nosuch"]),
        (["run", "p.rf", "-n", "x"], 1, ['invalid value "x" for flag -n: cannot parse "x" as integer']),
        (["run", "-eval", "sideways", "p.rf"], 2, ["invalid evaluation strategy sideways"]),
        (["run", "-invalidate", "(", "p.rf"], 2, ["missing closing )"]),
        (["run", "-executor", "nosuch", "p.rf"], 2, ["invalid -executor nosuch: want auto, docker"]),
        (["runbatch", "-executor", "nosuch"], 2, ["invalid -executor nosuch: want auto, docker"]),
        (["nosuch"], 2, ["Usage of reflow"]),
    ],
)
def test_command_lines_that_cannot_be(work: Workspace, words: list[str], code: int, texts: list[str]) -> None:
    work.write("p.rf", "param n = 1\nval Main = n\n")
    work.write("p.txt", "val Main = 1\n")
    work.reflow(*words).failed(*texts, code=code)


def test_an_input_that_cannot_be_read_is_named(work: Workspace) -> None:
    work.write("p.rf", f'val Main = {HEAD} (out file) {{" cat {{{{file("in")}}}} > {{{{out}}}} "}}\n')
    (work.dir / "in").symlink_to("in")
    work.reflow("run", "-executor", "process", "p.rf").failed("open in: ")


def test_an_input_that_changes_while_it_is_used_is_named_and_nothing_is_kept(work: Workspace) -> None:
    work.write("in", "one\n")
    target = work.dir / "in"
    script = f"cat {{{{file(\"in\")}}}} > {{{{out}}}}; echo more >> '{target}'"
    work.write("p.rf", f'val Main = {HEAD} (out file) {{" {script} "}}\n')
    work.reflow("run", "-executor", "process", "p.rf").failed("in", "changed")
    work.write("p.rf", f'val Main = {HEAD} (out file) {{" {script.split(";")[0]} "}}\n')
    assert work.reflow("run", "-executor", "process", "-json", "p.rf").ok().json["executed"] == 1


@pytest.mark.parametrize(
    ("script", "outputs", "texts"),
    [
        ("echo {{verdict}} >/dev/null", "verdict file", ["verdict"]),
        ("mkdir {{plot}}", "plot file", ["plot", "directory"]),
        ("rmdir {{plots}}; echo x > {{plots}}", "plots dir", ["plots"]),
        ("ln -s /etc/passwd {{out}}", "out file", ["/etc/passwd"]),
        ("ln -s loop {{out}}/loop", "out dir", ["loop"]),
        ("mkfifo {{out}}/pipe", "out dir", ["pipe"]),
    ],
)
def test_outputs_that_cannot_be_are_named(
    work: Workspace, script: str, outputs: str, texts: list[str]
) -> None:
    work.write("p.rf", one(script, outputs))
    work.reflow("run", "-executor", "process", "p.rf").failed(*texts)
    assert work.reflow("run", "-executor", "process", "-json", "p.rf").json["cached"] == 0


def test_a_failure_shows_the_command_the_end_of_stderr_and_where_to_read_on(work: Workspace) -> None:
    work.write("p.rf", one("echo it went wrong >&2; exit 3"))
    done = work.reflow("run", "-executor", "process", "p.rf")
    done.failed("exited with code 3", "it went wrong", "exit 3", "reflow logs ")
    line = next(line for line in done.err.splitlines() if "reflow logs " in line)
    words = line[line.index("reflow logs ") :].split()[1:3]
    assert "it went wrong" in work.reflow(*words).ok().out


def test_a_request_that_can_never_fit_names_the_exec_and_what_there_is(work: Workspace) -> None:
    work.write("p.rf", 'val Main = exec(image := "ubuntu", mem := 900*TiB) (out file) {" echo > {{out}} "}\n')
    work.reflow("run", "-executor", "process", "p.rf").failed(
        "required resource {mem:900.0TiB cpu:1 disk:0B} greater than available", "p.Main"
    )


def test_a_newer_database_is_refused_by_name(work: Workspace) -> None:
    work.write("p.rf", one("echo x > {{out}}"))
    work.reflow("run", "-executor", "process", "p.rf").ok()
    databases = sorted(work.state.glob("*.db"))
    assert databases
    for path in databases:
        with sqlite3.connect(path) as made:
            made.execute("pragma user_version = 999")
    work.reflow("run", "-executor", "process", "p.rf").failed("999", ".db")


def test_a_damaged_index_is_set_aside_and_the_error_says_how_to_go_on(work: Workspace) -> None:
    work.write("p.rf", one("echo x > {{out}}"))
    work.reflow("run", "-executor", "process", "p.rf").ok()
    (work.state / "assoc.db").write_bytes(b"this is no database" * 1000)
    for left in work.state.glob("assoc.db-*"):
        left.unlink()
    work.reflow("run", "-executor", "process", "p.rf").failed("assoc.db", "set aside")
    work.reflow("run", "-executor", "process", "p.rf").ok()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full_is_named_and_nothing_is_half_written(work: Workspace, small: Path) -> None:
    work.write("p.rf", one("head -c 20000000 /dev/zero > {{out}}"))
    state = small / "state"
    done = work.reflow("run", "-executor", "process", "p.rf", REFLOW_HOME=str(state))
    done.failed("No space left on device")
    objects = [path for path in (state / "repository").rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 20_000_000 for path in objects)
    # What the command printed has no room either: it is the machine that failed then, and nothing is kept.
    for line in done.err.splitlines():
        if "directory: " in line:
            shutil.rmtree(line.split("directory: ")[1])
    assert f"{state}/local/logs/" in done.err or "directory: " in done.err
    work.write("p.rf", one("echo x > {{out}}"))
    work.reflow("run", "-executor", "process", "p.rf", REFLOW_HOME=str(state)).ok()


@pytest.mark.docker
@pytest.mark.parametrize(
    ("image", "texts"),
    [
        ("alpine", ["alpine", "bash"]),
        ("no/such:image", ["no/such:image"]),
        ("Not A Name", ["Not A Name"]),
    ],
)
def test_images_that_cannot_be_used_are_one_error_soon(work: Workspace, image: str, texts: list[str]) -> None:
    work.write("p.rf", f'val Main = exec(image := "{image}") (out file) {{" echo > {{{{out}}}} "}}\n')
    begin = time.monotonic()
    work.reflow("run", "-executor", "docker", "p.rf").failed(*texts)
    assert time.monotonic() - begin < 60


def test_docker_that_was_asked_for_is_never_replaced(work: Workspace) -> None:
    work.write("p.rf", one("echo x > {{out}}"))
    done = work.reflow("run", "-executor", "docker", "p.rf", DOCKER_HOST="unix:///nonexistent/docker.sock")
    done.failed("docker", "/nonexistent/docker.sock")
    work.reflow("run", "-executor", "docker", "p.rf", DOCKER_HOST="tcp://10.0.0.1:2375").failed("tcp://")


def test_auto_without_a_daemon_runs_here_and_says_so(work: Workspace) -> None:
    work.write("p.rf", one("echo x > {{out}}"))
    done = work.reflow("run", "p.rf", DOCKER_HOST="unix:///nonexistent/docker.sock").ok()
    assert "executor: process" in done.err
    assert "images are ignored" in done.err
