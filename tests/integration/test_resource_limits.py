"""What execs ask for, through the real command: least, most, too much, and more after running out."""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.disk.controlgroup import usable_cpus
from reflow.executor.machine import total_memory_bytes
from tests.command import Done, Workspace

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def an_exec(parameters: str, script: str = "echo done > {{out}}") -> str:
    words = f", {parameters}" if parameters else ""
    return f'exec(image := "ubuntu"{words}) (out file) {{" {script} "}}'


def run(work: Workspace, program: str, *flags: str) -> Done:
    work.write("p.rf", program)
    return work.reflow(*flags, "run", "-executor", "process", "-json", "p.rf")


def given(work: Workspace) -> list[dict[str, float]]:
    """What tasks were given, in their order."""
    with sqlite3.connect(work.state / "taskdb.db") as connection:
        found = connection.execute("SELECT resources FROM tasks ORDER BY rowid").fetchall()
    return [json.loads(text) for (text,) in found]


@pytest.mark.parametrize(
    ("parameters", "mem_mib", "cpu"),
    [("", 500, 1), ("mem := 3*MiB, cpu := 0.25", 500, 1), ("mem := 700*MiB, cpu := 2", 700, 2)],
)
def test_an_exec_gets_half_a_gib_and_a_core_at_least(
    work: Workspace, parameters: str, mem_mib: float, cpu: float
) -> None:
    run(work, f"val Main = {an_exec(parameters)}\n").ok()
    (amounts,) = given(work)
    assert (amounts["mem"], amounts["cpu"]) == (mem_mib * MIB, cpu)


def test_requires_is_about_machines_and_changes_neither_execs_nor_keys(work: Workspace) -> None:
    run(work, f"@requires(cpu := 1000, mem := 9000*GiB)\nval Main = {an_exec('cpu := 1')}\n").ok()
    (amounts,) = given(work)
    assert (amounts["mem"], amounts["cpu"]) == (500 * MIB, 1)
    assert run(work, f"val Main = {an_exec('mem := GiB')}\n").ok().json["cached"] == 1


def test_execs_are_never_given_more_than_there_is(work: Workspace) -> None:
    """Each takes more than half of the memory: no two run at once, though there is a core for each."""
    most_mib = int(total_memory_bytes() * 0.95) // MIB
    log = work.dir / "log"
    one = an_exec(
        f"mem := {most_mib * 6 // 10}*MiB",
        f"echo 1 >> {log}; sleep 0.2; echo -1 >> {log}; : {{{{i}}}}; : > {{{{out}}}}",
    )
    run(work, f"func one(i int) = {one}\nval Main = [one(i) | i <- range(0, 4)]\n").ok()
    assert log.read_text().split() == ["1", "-1"] * 4


def test_an_exec_that_asks_for_a_little_more_than_there_is_gets_what_there_is(work: Workspace) -> None:
    most = int(total_memory_bytes() * 0.95)
    done = run(work, f"val Main = {an_exec(f'mem := {int(most * 1.04)}')}\n").ok()
    (amounts,) = given(work)
    assert amounts["mem"] == most
    assert "capping resources from " in done.err


@pytest.mark.parametrize(
    ("parameters", "asked", "offer"),
    [
        ("cpu := 5000", "cpu:5000", f"cpu {usable_cpus()}: write cpu := {usable_cpus()} or less"),
        (
            "mem := 900000*GiB",
            "mem:878.9TiB",
            f": write mem := {int(total_memory_bytes() * 0.95) // GIB}*GiB or less",
        ),
        ("disk := 9000000*GiB", "disk:", ": write disk := "),
        (
            'cpu := 1, cpufeatures := ["quantum"]',
            "quantum:1",
            "no quantum: leave it out, or run on another machine",
        ),
    ],
)
def test_what_can_never_fit_is_refused_at_once_with_the_closest_offer(
    work: Workspace, parameters: str, asked: str, offer: str
) -> None:
    first = an_exec("cpu := 1", "echo small > {{out}}")
    done = run(work, f"val small = {first}\nval big = {an_exec(parameters)}\nval Main = (small, big)\n")
    done.failed("exec p.big: ", asked, offer, "the most that can be had here is ", "p.rf:2:15")
    assert done.json["error"]["kind"] == "ResourcesExhausted"
    assert done.json["error"]["position"].endswith("p.rf:2:15")
    assert "marking run for retry" not in done.err, "waiting would not help"
    assert "reflow logs" not in done.err, "it has never run"


def warned(done: Done) -> list[str]:
    found = re.findall(r"warning: reduce memory requirements for over-allocating execs: (.*)", done.err)
    return [name for names in found for name in names.split(", ")]


@pytest.mark.slow
def test_r4_a_warning_names_execs_that_ask_for_much_more_memory_than_they_use(work: Workspace) -> None:
    hold = "python3 -c 'import time; held = b\"x\" * (%d << 20); time.sleep(2.6)'; : > {{out}}"
    program = f"""
val good = {an_exec("mem := 700*MiB", hold % 600)}
val small = {an_exec("", hold % 1)}
val wasteful = {an_exec("mem := 2*GiB", hold % 100)}
val Main = (good, small, wasteful)
"""
    assert warned(run(work, program).ok()) == ["p.wasteful"]
    assert warned(run(work, program).ok()) == [], "nothing was measured: all is cached"


# More after running out of memory.

HUNGRY = """
val Main = exec(image := "ubuntu", mem := 300*MiB, cpu := 1) (out file) {"
	echo x >> NOTES
	python3 -c 'import time; held = b"x" * (USED << 20); time.sleep(2.6)'
	echo fed > {{out}}
"}
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with 900 MiB, as a batch system makes one for a job."""
    root = Path("/sys/fs/cgroup/memory")
    limit = "memory.limit_in_bytes"
    if not root.is_dir():
        root, limit = Path("/sys/fs/cgroup"), "memory.max"
    path = root / f"reflow-test-{secrets.token_hex(4)}"
    path.mkdir()
    (path / limit).write_text(str(900 * MIB))
    yield path
    path.rmdir()


def run_in(work: Workspace, group: Path, used_mib: int) -> Done:
    notes = work.dir / "notes"
    work.write("h.rf", HUNGRY.replace("USED", str(used_mib)).replace("NOTES", str(notes)))
    words = work.argv("-docker", "docker,memlimit=hard", "run", "-executor", "process", "-json", "h.rf")
    done = subprocess.run(
        ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *words],
        cwd=work.dir,
        env=work.env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


needs_groups = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups")


@pytest.mark.slow
@needs_groups
def test_r12_memory_grows_by_half_up_to_what_our_control_group_has(work: Workspace, group: Path) -> None:
    done = run_in(work, group, 2000).failed("killed by OOM killer", "h.Main")
    assert done.json["error"]["kind"] == "OOM"
    most = 900 * 0.95
    assert [each["mem"] / MIB for each in given(work)] == [500, 750, most]
    assert (work.dir / "notes").read_text() == "x\n" * 3
    assert re.findall(r"re-submitting task with (\S+) of memory", done.err) == ["750.0MiB", "855.0MiB"]


@pytest.mark.slow
@needs_groups
def test_an_exec_that_fits_after_it_has_got_more_succeeds_and_is_cached(work: Workspace, group: Path) -> None:
    done = run_in(work, group, 600).ok()
    assert [each["mem"] / MIB for each in given(work)] == [500, 750]
    assert done.json["executed"] == 1
    assert run_in(work, group, 600).ok().json["cached"] == 1
