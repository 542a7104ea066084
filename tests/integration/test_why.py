"""``reflow why`` and ``run -n``, and what the cache promises, through the real command."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import time
from pathlib import Path

import pytest

from tests.command import Done, Workspace

PROGRAM = """
param word = "one"
param ref file
val up = exec(image := "ubuntu") (out file) {"
	tr a-z A-Z < {{ref}} > {{out}}
	echo {{word}} >> {{out}}
"}
val beside = exec(image := "ubuntu") (out file) {" echo beside > {{out}} "}
val down = exec(image := "ubuntu") (out file) {" cat {{up}} {{beside}} > {{out}} "}
val Main = down
"""


DELAYED_PANIC = """
val slow = exec(image := "ubuntu") (out file) {" echo slow > {{out}} "}
val quick = delay(1)
val bad = if quick == 1 { panic("no") } else { slow }
val Main = (slow, bad)
"""


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.env.update(USER="tester", TZ="UTC")
    made.write("p.rf", PROGRAM)
    age(made.write("ref.txt", "reference\n"))
    return made


def age(path: Path) -> None:
    """Make a file old enough for its digest to be remembered."""
    then = time.time() - 60
    os.utime(path, (then, then))


def run(work: Workspace, *words: str, program: str = "p.rf") -> Done:
    return work.reflow("run", "-executor", "process", "-json", *words, program, "-ref", "ref.txt")


def why(work: Workspace, *words: str) -> str:
    return work.reflow("why", *words).ok().out


def objects(work: Workspace) -> Path:
    return work.state / "repository"


def object_path(work: Workspace, content: bytes) -> Path:
    name = hashlib.sha256(content).hexdigest()
    return objects(work) / name[:2] / name[2:]


def rows(work: Workspace) -> int:
    with sqlite3.connect(work.state / "assoc.db") as connection:
        (count,) = connection.execute("SELECT count(*) FROM assoc").fetchone()
    return int(count)


# Why.


def test_a_run_without_changes_executed_nothing(work: Workspace) -> None:
    run(work).ok()
    assert "3 executed" in why(work)
    run(work).ok()
    text = why(work)
    assert ": 3 from the cache, 0 executed" in text
    assert "p.down " in why(work, "down")
    assert "came from the cache: found under" in why(work, "p.down")


def test_an_edited_command_is_shown_as_a_diff_and_what_follows_from_it(work: Workspace) -> None:
    run(work).ok()
    first = why(work).split()[1]
    done = work.reflow("run", "-executor", "process", "-json", "p.rf", "-ref", "ref.txt", "-word", "two").ok()
    assert (done.json["executed"], done.json["cached"]) == (2, 1)
    summary = why(work)
    assert re.search(r"p\.up +1 +command changed", summary)
    assert re.search(r"p\.down +1 +input \{\{up\}\} changed", summary)
    up = why(work, "up")
    assert "    - echo one >> {{out}}\n    + echo two >> {{out}}\n" in up
    down = why(work, "down")
    assert re.search(r"input \{\{up\}\}:\n +- [0-9a-f]{8} 14B  output out of p\.up [0-9a-f]{8}\n", down)
    assert re.search(r"p\.up [0-9a-f]{8} was executed as well: command changed", down)
    assert "beside" not in why(work, "down", "up")
    assert "3 executed" in why(work, first), "an earlier run is told of, too"


def test_an_edited_input_file_is_named(work: Workspace) -> None:
    run(work).ok()
    age(work.write("ref.txt", "other reference\n"))
    run(work).ok()
    text = why(work, "up")
    assert "was executed: input {{ref}} changed" in text
    assert re.search(r"- [0-9a-f]{8} 10B  file .*ref\.txt\n +\+ [0-9a-f]{8} 16B  file .*ref\.txt", text)


def test_another_image_is_a_change(work: Workspace) -> None:
    run(work).ok()
    work.write(
        "p.rf", PROGRAM.replace('"ubuntu") (out file) {" echo beside', '"debian") (out file) {" echo beside')
    )
    run(work).ok()
    assert "  image:\n    - ubuntu\n    + debian\n" in why(work, "beside")
    assert "came from the cache" in why(work, "down"), "what comes out the same changes nothing below"


def test_flags_that_kept_results_from_being_taken_are_said(work: Workspace) -> None:
    run(work).ok()
    run(work, "-invalidate", "beside").ok()
    assert "its identifier matches -invalidate" in why(work, "beside")
    work.reflow("-cache=off", "run", "-executor", "process", "p.rf", "-ref", "ref.txt").ok()
    assert "not looked up (-cache)" in why(work, "beside")


def test_a_failure_is_no_result_and_why_says_so(work: Workspace) -> None:
    work.write("f.rf", 'val Main = exec(image := "ubuntu") (out file) {" exit 3 "}\n')
    for _ in range(2):
        work.reflow("run", "-executor", "process", "f.rf").failed()
    text = why(work, "f.Main")
    assert "was executed: it failed before" in text
    assert "exited with code 3" in text


def test_names_are_identifiers_patterns_flows_and_tasks(work: Workspace) -> None:
    run(work).ok()
    text = why(work, "p.up")
    flow, task = re.findall(r"p\.up ([0-9a-f]{8})|task ([0-9a-f]{8})", text)
    for name in ("up", "p.u*", flow[0], task[1]):
        assert why(work, name) == text
    assert why(work, "up", "p.up", flow[0]) == text


def test_what_cannot_be_told_is_an_error(work: Workspace) -> None:
    work.reflow("why").failed("nothing was run yet")
    run(work).ok()
    work.reflow("why", "nonsense").failed("has no nonsense; it has p.beside, p.down, p.up")


def test_a_record_that_cannot_be_written_is_no_harm(work: Workspace) -> None:
    run(work).ok()
    (work.state / "explain.db").write_bytes(
        b"this is no database, but it is long enough to be looked at" * 99
    )
    done = run(work).ok()
    assert done.json["executed"] == 0
    assert "reflow why will miss this run" in done.err
    run(work).ok()
    assert "3 from the cache" in why(work)


# Dry runs.


def test_a_dry_run_tells_and_touches_nothing(work: Workspace) -> None:
    done = work.reflow("run", "-n", "-executor", "process", "p.rf", "-ref", "ref.txt").ok()
    assert done.out.startswith("2 would be executed, 0 come from the cache\n")
    assert "p.up" in done.out
    assert "would be executed: it is new" in done.out
    assert "what then follows depends on their results: p.down" in done.out
    assert not any(path.is_file() for path in objects(work).rglob("*"))
    assert not (work.state / "taskdb.db").exists()
    assert not (work.state / "runs").exists()
    work.reflow("why").failed("nothing was run yet")


def test_a_dry_run_says_what_changed_and_is_not_recorded(work: Workspace) -> None:
    run(work).ok()
    before = why(work)
    done = work.reflow("run", "-n", "-executor", "process", "p.rf", "-ref", "ref.txt", "-word", "two").ok()
    assert "1 would be executed, 1 come from the cache" in done.out
    assert "    - echo one >> {{out}}\n    + echo two >> {{out}}\n" in done.out
    assert why(work) == before
    real = work.reflow("run", "-executor", "process", "-json", "p.rf", "-ref", "ref.txt", "-word", "two").ok()
    assert (real.json["executed"], real.json["cached"]) == (2, 1)


def test_a_dry_run_of_what_is_cached_has_the_result(work: Workspace) -> None:
    result = run(work).ok().json["result"]
    done = run(work, "-n", "-out", "never").ok()
    assert done.json["result"] == result
    assert done.json["would_execute"] == []
    assert not (work.dir / "never").exists()


def test_a_dry_run_in_json_has_reasons(work: Workspace) -> None:
    run(work).ok()
    age(work.write("ref.txt", "other reference\n"))
    row = run(work, "-n").ok().json
    assert (row["run"], row["executed"], row["result"]) == (None, 0, None)
    (node,) = row["would_execute"]
    assert (node["ident"], node["changed"]) == ("p.up", ["input {{ref}}"])
    assert "p.down" in row["undecided"]


def test_an_error_of_the_program_ends_a_dry_run_as_it_would_the_run(work: Workspace) -> None:
    work.write("e.rf", DELAYED_PANIC)
    done = work.reflow("run", "-n", "-executor", "process", "e.rf").failed("panic: no", code=11)
    assert "^^^^" in done.err
    assert "1 would be executed" in done.out


def test_an_immediate_main_is_printed_by_a_dry_run_and_placed_nowhere(work: Workspace) -> None:
    work.write("i.rf", "val Main = 3\n")
    assert work.reflow("run", "-n", "-out", "placed", "i.rf").ok().out == "3\n"
    assert not (work.dir / "placed").exists()


# What the cache promises.


def test_an_edit_that_changes_no_output_runs_nothing_below(work: Workspace) -> None:
    run(work).ok()
    work.write("p.rf", PROGRAM.replace("tr a-z A-Z < {{ref}}", "cat {{ref}} | tr a-z A-Z"))
    done = run(work).ok()
    assert (done.json["executed"], done.json["cached"]) == (1, 2)


def test_nondeterministic_execs_are_cached_like_any_other(work: Workspace) -> None:
    text = (
        'val Main = exec(image := "ubuntu", nondeterministic := true) (out file) {" date +%N > {{out}} "}\n'
    )
    work.write("n.rf", text)
    first = work.reflow("run", "-executor", "process", "-json", "n.rf").ok().json
    again = work.reflow("run", "-executor", "process", "-json", "n.rf").ok().json
    assert (again["executed"], again["cached"]) == (0, 1)
    assert again["result"] == first["result"]


def test_an_object_that_is_gone_makes_a_miss(work: Workspace) -> None:
    first = run(work).ok().json
    object_path(work, b"REFERENCE\none\nbeside\n").unlink()
    again = run(work).ok()
    assert (again.json["executed"], again.json["result"]) == (1, first["result"])
    assert "cache.Lookup p.down: resource does not exist: missing 1 files" in again.err
    assert "lacks files that are no longer in the repository" in why(work, "down")


def test_an_object_that_goes_away_while_it_is_needed_makes_the_evaluation_begin_anew(work: Workspace) -> None:
    precious = object_path(work, b"precious\n")
    program = f"""
param stage = "one"
val kept = exec(image := "ubuntu") (out file) {{" echo precious > {{{{out}}}} "}}
val thief = exec(image := "ubuntu") (out file) {{"
	if [ {{{{stage}}}} = two ]; then rm -f {precious}; fi
	echo {{{{stage}}}} > {{{{out}}}}
"}}
val Main = exec(image := "ubuntu") (out file) {{" cat {{{{thief}}}} {{{{kept}}}} > {{{{out}}}} "}}
"""
    work.write("t.rf", program)
    argv = ("run", "-executor", "process", "-json", "-out", "out.txt", "t.rf")
    work.reflow(*argv).ok()
    began_s = time.monotonic()
    done = work.reflow(*argv, "-stage", "two").ok()
    assert time.monotonic() - began_s < 30, "it does not wait a minute for what will not come back by itself"
    assert (work.dir / "out.txt").read_text() == "two\nprecious\n"
    assert "an object went away while the run needed it" in done.err
    assert (done.json["executed"], done.json["cached"]) == (3, 0)


def test_a_file_that_is_met_late_is_read_once(work: Workspace) -> None:
    age(work.write("late.txt", "late\n"))
    time.sleep(2.5)  # a file that was touched a moment ago is not remembered
    work.write(
        "l.rf",
        'val n = exec(image := "ubuntu") (out file) {" echo n > {{out}} "}\n'
        'val late = if len(n) > 0 { file("late.txt") } else { n }\n'
        'val Main = exec(image := "ubuntu") (out file) {" cat {{late}} {{n}} > {{out}} "}\n',
    )
    work.reflow("run", "-executor", "process", "l.rf").ok()
    status = os.stat(work.dir / "late.txt")
    with sqlite3.connect(work.state / "local.db") as connection:
        found = connection.execute("SELECT size FROM hashed WHERE inode = ?", (status.st_ino,)).fetchall()
    assert found == [(5,)]
    assert re.search(r"file .*late\.txt|Main", why(work, "l.Main"))


def test_results_that_cannot_be_written_are_reported_as_lost(work: Workspace) -> None:
    run(work).ok()
    with sqlite3.connect(work.state / "assoc.db") as connection:
        connection.execute(
            "CREATE TRIGGER no_more BEFORE INSERT ON assoc BEGIN SELECT RAISE(ABORT, 'no more rows'); END"
        )
    done = work.reflow("run", "-executor", "process", "-json", "p.rf", "-ref", "ref.txt", "-word", "two").ok()
    assert done.json["executed"] == 2
    assert "cache write" in done.err
    assert "cache writes failed: they are not in the cache, and will be computed again" in done.err


def test_a_missing_output_is_an_error_and_leaves_no_entry(work: Workspace) -> None:
    work.write("m.rf", 'val Main = exec(image := "ubuntu") (out file) {" : {{out}} "}\n')
    run(work).ok()
    before = rows(work)
    work.reflow("run", "-executor", "process", "m.rf").failed("out")
    assert rows(work) == before


@pytest.mark.parametrize(("mode", "executed", "is_written"), [
    ("off", 3, False), ("read", 3, False), ("write", 3, True), ("readwrite", 3, True),
])  # fmt: skip
def test_modes_write_as_they_say(work: Workspace, mode: str, executed: int, is_written: bool) -> None:
    done = work.reflow(
        f"-cache={mode}", "run", "-executor", "process", "-json", "p.rf", "-ref", "ref.txt"
    ).ok()
    assert done.json["executed"] == executed
    again = run(work).ok()
    assert again.json["executed"] == (0 if is_written else 3)


# The graph and the trace.


def test_the_graph_is_drawn_where_graphviz_is(work: Workspace, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "dot").write_text('#!/bin/sh\ncp "$4" "$3"\n')
    (tools / "dot").chmod(0o755)
    work.env["PATH"] = f"{tools}:{work.env['PATH']}"
    run(work).ok()
    (drawing,) = (work.state / "runs").glob("*.svg")
    assert drawing.read_text() == drawing.with_suffix(".gv").read_text()
    run(work, "-dotgraph=false").ok()
    assert len(list((work.state / "runs").glob("*.gv"))) == 1
    assert len(list((work.state / "runs").glob("*.svg"))) == 1


def test_a_trace_has_execs_look_ups_and_cache_writes(work: Workspace) -> None:
    import json

    work.reflow("-tracer=localtracer", "run", "-executor", "process", "p.rf", "-ref", "ref.txt").ok()
    (path,) = (work.state / "runs").glob("*.trace")
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["cat"]: [] for event in events}
    for event in events:
        names[event["cat"]].append(event["name"])
        assert event["ph"] == "X"
        assert event["dur"] >= 0
    assert len(names["Run"]) == 1
    assert sum(name.startswith("batch cache lookup (") for name in names["Cache"]) >= 2
    assert sum(name.startswith("cache write ") for name in names["Cache"]) == 3
    assert sum(name.endswith("waiting for completion") for name in names["Exec"]) == 3
