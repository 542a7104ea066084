"""What docs/caching.md promises, through the real command: modes, repairs, empty values, missing objects."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import encode_fileset
from tests import servers
from tests.awsaccount import new_bucket
from tests.command import Done, Workspace

ONE = """
val Main = exec(image := "ubuntu", mem := MiB, cpu := 1) (out file) {"
	echo x >> NOTES
	echo one > {{out}}
"}
"""
CHAIN = """
param word = "a"
val first = exec(image := "ubuntu", mem := MiB, cpu := 1) (out file) {"
	echo first >> NOTES
	: {{word}}
	echo same > {{out}}
"}
val second = exec(image := "ubuntu", mem := MiB, cpu := 1) (out file) {"
	echo second >> NOTES
	cat {{first}} > {{out}}
"}
val Main = second
"""
TWO = """
val both = exec(image := "ubuntu", mem := MiB, cpu := 1) (out, log file) {"
	echo x >> NOTES
	echo one > {{out}}
	echo two > {{log}}
"}
val Main = { val (out, _) = both; out }
"""
EMPTY_DIR = """
val made = exec(image := "ubuntu", mem := MiB, cpu := 1) (out dir) {"
	echo x >> NOTES
"}
val Main = made
"""


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    for name, text in (("one.rf", ONE), ("two.rf", TWO), ("chain.rf", CHAIN), ("empty.rf", EMPTY_DIR)):
        made.write(name, text.replace("NOTES", str(notes(made))))
    return made


def notes(work: Workspace) -> Path:
    """Where execs note that they ran."""
    return work.dir / "notes"


def ran(work: Workspace) -> list[str]:
    """The execs that ran since the last time."""
    path = notes(work)
    words = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return words


def run(work: Workspace, *words: str, cache: str = "readwrite") -> Done:
    return work.reflow(f"-cache={cache}", "run", "-executor", "process", "-json", *words)


def rows(work: Workspace) -> dict[bytes, bytes]:
    """The entries of the cache's index."""
    with sqlite3.connect(work.state / "assoc.db") as connection:
        found = connection.execute("SELECT key, value_v2 FROM assoc").fetchall()
    return {bytes(key): bytes(value) for key, value in found}


def change(work: Workspace, statement: str, *values: bytes) -> None:
    with sqlite3.connect(work.state / "assoc.db") as connection:
        connection.execute(statement, values)


def object_path(work: Workspace, content: bytes) -> Path:
    name = Digest.of(content).hex()
    return work.state / "repository" / name[:2] / name[2:]


def put_object(work: Workspace, content: bytes) -> bytes:
    """Put an object into the repository; its digest."""
    path = object_path(work, content)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return Digest.of(content)


# Modes.


@pytest.mark.parametrize(
    ("mode", "is_read", "is_written"),
    [("off", False, False), ("read", True, False), ("write", False, True), ("readwrite", True, True)],
)
def test_r7_each_mode_reads_and_writes_what_it_says(
    work: Workspace, mode: str, is_read: bool, is_written: bool
) -> None:
    done = run(work, "one.rf", cache=mode).ok()
    assert (done.json["executed"], ran(work)) == (1, ["x"])
    assert bool((work.state / "assoc.db").exists() and rows(work)) == is_written
    run(work, "one.rf", cache="write").ok()
    ran(work)
    done = run(work, "one.rf", cache=mode).ok()
    assert (done.json["executed"], done.json["cached"]) == ((0, 1) if is_read else (1, 0))
    assert ran(work) == ([] if is_read else ["x"])


def test_r8_invalidated_execs_run_and_what_they_make_is_cached(work: Workspace) -> None:
    run(work, "chain.rf").ok()
    assert ran(work) == ["first", "second"]
    assert run(work, "-invalidate=second$", "chain.rf").ok().json["executed"] == 1
    assert ran(work) == ["second"]
    change(work, "DELETE FROM assoc")
    run(work, "-invalidate=.", "chain.rf").ok()
    assert ran(work) == ["first", "second"]
    assert run(work, "chain.rf").ok().json["executed"] == 0


# Keys.


def test_a_hit_under_one_key_repairs_the_others(work: Workspace) -> None:
    run(work, "one.rf").ok()
    whole = rows(work)
    assert len(whole) == 2
    for key in whole:
        change(work, "DELETE FROM assoc WHERE key = ?", key)
        assert run(work, "one.rf").ok().json["cached"] == 1
        assert rows(work) == whole
    change(work, "DELETE FROM assoc WHERE key = ?", next(iter(whole)))
    assert run(work, "one.rf", cache="read").ok().json["cached"] == 1
    assert len(rows(work)) == 1


def test_the_same_output_again_runs_nothing_below(work: Workspace) -> None:
    run(work, "chain.rf").ok()
    ran(work)
    done = run(work, "chain.rf", "-word=b").ok()
    assert (done.json["executed"], done.json["cached"]) == (1, 1)
    assert ran(work) == ["first"]


def test_a_nondeterministic_exec_is_cached_and_cuts_off_early_only_when_it_came_out_as_before(
    work: Workspace,
) -> None:
    coin = work.write("coin", "one")
    program = CHAIN.replace("exec(image", "exec(nondeterministic := true, image", 1)
    program = program.replace("echo same", f"cat {coin}").replace("NOTES", str(notes(work)))
    work.write("nd.rf", program)
    run(work, "nd.rf").ok()
    assert ran(work) == ["first", "second"]
    coin.write_text("two")
    assert run(work, "nd.rf").ok().json["executed"] == 0
    coin.write_text("one")
    run(work, "-invalidate=first$", "nd.rf").ok()
    assert ran(work) == ["first"]
    coin.write_text("two")
    done = run(work, "-invalidate=first$", "-out", "result", "nd.rf").ok()
    assert ran(work) == ["first", "second"]
    assert (work.dir / "result").read_text() == "two"
    assert done.json["executed"] == 2


# Empty values.


def test_r10_an_empty_value_is_taken_and_computed_again_only_when_asked(work: Workspace) -> None:
    run(work, "empty.rf").ok()
    assert run(work, "empty.rf").ok().json["cached"] == 1
    ran(work)
    done = run(work, "-recomputeempty", "empty.rf").ok()
    assert (done.json["executed"], ran(work)) == (1, ["x"])
    assert "recomputeempty" in done.err


def test_a_value_of_the_original_without_an_output_is_taken_with_a_warning_and_not_spread(
    work: Workspace,
) -> None:
    run(work, "two.rf").ok()
    # What the original caches for a command that has not written one of its outputs.
    out = Fileset.of_file(File(Digest.of(b"one\n"), 4))
    value = put_object(work, encode_fileset(Fileset(members=[out, Fileset()])))
    change(work, "UPDATE assoc SET value_v2 = ?", value)
    change(work, "DELETE FROM assoc WHERE key = (SELECT min(key) FROM assoc)")
    ran(work)
    done = run(work, "two.rf").failed(
        "output file not created in ", "no file for log", "two.rf:2:16", code=11
    )
    assert (done.json["cached"], ran(work)) == (1, [])
    assert "warning: two.both: its value has no file for log; -recomputeempty computes it again" in done.err
    assert list(rows(work).values()) == [value]
    again = run(work, "-recomputeempty", "-out", "result", "two.rf").ok()
    assert (again.json["executed"], ran(work)) == (1, ["x"])
    assert len(rows(work)) == 2
    assert value not in rows(work).values()


def test_a_missing_output_is_an_error_and_never_cached(work: Workspace) -> None:
    work.write("none.rf", 'val Main = exec(image := "ubuntu") (out file) {" : {{out}} "}\n')
    for _ in range(2):
        done = run(work, "none.rf").failed("out")
        assert (done.json["failed"], done.json["cached"]) == (1, 0)
    assert rows(work) == {}


# Objects.


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_an_object_that_is_not_what_it_was_makes_a_miss_never_a_wrong_answer(
    work: Workspace, damage: str
) -> None:
    run(work, "chain.rf").ok()
    ran(work)
    path = object_path(work, b"same\n")
    path.chmod(0o644)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"sa")
    done = run(work, "-out", "result", "chain.rf").ok()
    # What it gives again is what the second had before.
    assert (done.json["executed"], done.json["cached"], ran(work)) == (1, 1, ["first"])
    assert (work.dir / "result").read_text() == "same\n"
    assert "missing 1 files (5B); it is computed again" in done.err


def test_a_value_that_is_gone_makes_a_miss(work: Workspace) -> None:
    run(work, "one.rf").ok()
    ran(work)
    for value in set(rows(work).values()):
        (work.state / "repository" / value.hex()[:2] / value.hex()[2:]).unlink()
    assert run(work, "one.rf").ok().json["executed"] == 1
    assert ran(work) == ["x"]
    assert run(work, "one.rf").ok().json["cached"] == 1


# Writes.


def wait_for(process: subprocess.Popen[str], word: str) -> str:
    """Read what a run says until it has said ``word``."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if word in line:
            return seen
    raise AssertionError(f"{word!r} was not said:\n{seen}")


def test_entries_are_written_before_the_command_ends(work: Workspace) -> None:
    run(work, "one.rf", cache="write").ok()
    change(work, "DELETE FROM assoc")
    other = sqlite3.connect(work.state / "assoc.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # nobody else can write meanwhile
    process = work.start("-cache=write", "run", "-executor", "process", "one.rf")
    said = wait_for(process, "result:")
    is_over_early = process.poll() is not None
    threading.Timer(1.0, other.execute, ("COMMIT",)).start()
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, said + rest
    assert not is_over_early
    assert "lost" not in rest
    other.close()
    assert len(rows(work)) == 2


def test_r10_entries_that_cannot_be_written_in_time_are_reported(work: Workspace) -> None:
    run(work, "one.rf", cache="write").ok()
    change(work, "DELETE FROM assoc")
    other = sqlite3.connect(work.state / "assoc.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began_s = time.monotonic()
    done = run(work, "-backgroundtimeout=1s", "one.rf", cache="write").ok()
    waited_s = time.monotonic() - began_s
    other.execute("COMMIT")
    other.close()
    assert waited_s >= 1
    assert "computed again" in done.err
    assert rows(work) == {}


# Assertions.

COPY = """
val source = file("s3://BUCKET/in")
val Main = exec(image := "ubuntu", mem := MiB, cpu := 1) (out file) {"
	echo x >> NOTES
	cat {{source}} > {{out}}
"}
"""


@pytest.fixture
def bucket(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket that programs of ``work`` read from."""
    work.env |= servers.use(monkeypatch)
    with new_bucket(boto3.client("s3"), "caching") as name:
        yield name


def put_source(bucket: str, text: str) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key="in", Body=text.encode())


@pytest.mark.s3
def test_r9_a_source_that_has_changed_is_seen_and_unknown_policies_are_refused(
    work: Workspace, bucket: str
) -> None:
    work.write("copy.rf", COPY.replace("NOTES", str(notes(work))).replace("BUCKET", bucket))
    put_source(bucket, "one\n")
    run(work, "copy.rf").ok()
    ran(work)
    for policy in ("never", "exact"):
        assert run(work, f"-assert={policy}", "copy.rf").ok().json["executed"] == 0
    put_source(bucket, "two\n")
    # What is only referred to is looked at anew, whatever the policy; interned contents are what they were.
    assert run(work, "-assert=exact", "-out", "new", "copy.rf").ok().json["executed"] == 1
    assert (work.dir / "new").read_text() == "two\n"
    assert ran(work) == ["x"]
    run(work, "-assert=nosuch", "copy.rf").failed("unknown Assert policy nosuch", code=2)
