"""Faults that can happen on one machine, injected into the real command (docs/decisions/0010-faults.md)."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from tests.command import Done, Workspace

PROGRAM = """
param word = "one"
val up = exec(image := "ubuntu") (out file) {" echo precious > {{out}} "}
val Main = exec(image := "ubuntu") (out file) {"
	cat {{up}} > {{out}}
	echo {{word}} >> {{out}}
"}
"""
EXECUTORS = [
    "process",
    pytest.param("sandbox", marks=pytest.mark.sandbox),
    pytest.param("docker", marks=pytest.mark.docker),
]


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.write("p.rf", PROGRAM)
    return made


def run(
    work: Workspace, flag: str = "", *words: str, executor: str = "process", program: str = "p.rf"
) -> Done:
    flags = [flag] if flag else []
    return work.reflow("run", "-executor", executor, "-json", "-out", "out.txt", *flags, program, *words)


def counting(work: Workspace, script: str) -> Path:
    """Make a program whose exec notes each time that it runs; return where."""
    notes = work.dir / "notes"
    work.write("c.rf", f'val Main = exec(image := "ubuntu") (out file) {{" echo x >> {notes}; {script} "}}\n')
    return notes


def entries(work: Workspace) -> int:
    with sqlite3.connect(work.state / "assoc.db") as connection:
        (count,) = connection.execute("SELECT count(*) FROM assoc").fetchone()
    return int(count)


def precious(work: Workspace) -> Path:
    """Where the object is that the first exec made."""
    name = hashlib.sha256(b"precious\n").hexdigest()
    return work.state / "repository" / name[:2] / name[2:]


def corrupt(path: Path, *, silently: bool) -> None:
    """Change a bit of an object; silently: its size and times stay as they were."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)
    if silently:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def assert_recomputed(work: Workspace, done: Done) -> None:
    """The run has executed both, its result is right, and the bad object is kept aside."""
    assert (work.dir / "out.txt").read_text() == "precious\ntwo\n"
    assert (done.json["executed"], done.json["failed"]) == (2, 0)
    assert precious(work).read_bytes() == b"precious\n"
    (aside,) = (work.state / "repository" / "damaged").iterdir()
    assert aside.read_bytes() == b"qrecious\n"


def test_program_fails_is_not_tried_again_and_not_cached(work: Workspace) -> None:
    notes = counting(work, "exit 3")
    run(work, program="c.rf").failed("exited with code 3")
    assert notes.read_text() == "x\n"
    assert entries(work) == 0


def test_exit_75_is_tried_three_times_more_and_the_success_is_cached(work: Workspace) -> None:
    notes = counting(work, "[ $(wc -l < %s) = 4 ] || exit 75; echo end > {{out}}" % (work.dir / "notes"))
    done = run(work, program="c.rf").ok()
    assert notes.read_text() == "x\n" * 4
    assert "(3/3) due to error" in done.err
    assert run(work, program="c.rf").ok().json["cached"] == 1
    assert notes.read_text() == "x\n" * 4


@pytest.mark.parametrize("executor", EXECUTORS)
def test_corrupt_object_whose_time_tells_is_set_aside_and_recomputed(work: Workspace, executor: str) -> None:
    run(work, executor=executor).ok()
    corrupt(precious(work), silently=False)
    assert_recomputed(work, run(work, "", "-word", "two", executor=executor).ok())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_corrupt_object_that_looks_right_is_found_by_postusechecksum_and_recomputed(
    work: Workspace, executor: str
) -> None:
    run(work, executor=executor).ok()
    corrupt(precious(work), silently=True)
    done = run(work, "-postusechecksum", "-word", "two", executor=executor).ok()
    assert_recomputed(work, done)
    assert "set aside as" in done.err


def test_corrupt_object_that_makes_the_command_fail_is_found_all_the_same(work: Workspace) -> None:
    work.write("p.rf", PROGRAM.replace("cat {{up}}", "grep -q precious {{up}}; cat {{up}}"))
    run(work).ok()
    corrupt(precious(work), silently=True)
    assert_recomputed(work, run(work, "-postusechecksum", "-word", "two").ok())


def test_corrupt_entry_is_a_miss(work: Workspace) -> None:
    run(work).ok()
    with sqlite3.connect(work.state / "assoc.db") as connection:
        values = [bytes(row[0]).hex() for row in connection.execute("SELECT DISTINCT value_v2 FROM assoc")]
    for value in values:
        corrupt(work.state / "repository" / value[:2] / value[2:], silently=True)
    done = run(work).ok()
    assert (done.json["executed"], done.json["cached"]) == (2, 0)
    assert "contents do not have this digest; set aside as" in done.err
    assert run(work).ok().json["cached"] >= 1


@pytest.mark.parametrize("executor", EXECUTORS)
def test_input_altered_by_an_exec_never_stays_in_the_repository(work: Workspace, executor: str) -> None:
    work.write("p.rf", PROGRAM.replace("cat {{up}}", "f={{up}}; chmod u+w $f; echo more >> $f; cat $f"))
    done = run(work, executor=executor)
    if done.code:
        done.failed("altered while", "damaged")
        assert not precious(work).exists()
    else:
        assert precious(work).read_bytes() == b"precious\n"
        assert (work.dir / "out.txt").read_text() == "precious\nmore\none\n"


def test_missing_object_of_the_result_is_recomputed(work: Workspace) -> None:
    run(work).ok()
    result = hashlib.sha256(b"precious\none\n").hexdigest()
    (work.state / "repository" / result[:2] / result[2:]).unlink()
    precious(work).unlink()
    done = run(work).ok()
    assert done.json["executed"] == 2
    assert (work.dir / "out.txt").read_text() == "precious\none\n"
