"""The record of decisions: what is kept once, and what is found again."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.eval.explain import Decisions, Execution, Miss, Verdict
from reflow.flow.data import LocalFile
from reflow.flow.digest import digest
from reflow.flow.node import Exec, Val
from reflow.runtime import explain
from reflow.runtime.explain import ENDED_WELL, FAILED, SCHEMA, UNFINISHED, RunFacts, RunWriter
from reflow.runtime.explainread import Origins, Reader, RecordedRun
from reflow.runtime.reason import Reason, Reasons
from tests.fakes import an_exec

SETTINGS = {"executor": "process", "cache": "readwrite"}


def lone(text: str) -> Fileset:
    return Fileset.of_file(File(Digest.of_text(text), len(text)))


class Book:
    """A record in memory; runs are numbered from 1."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in SCHEMA.create:
            self.connection.execute(statement)
        self.reader = Reader(self.connection)
        self.runs = 0

    def write(
        self,
        *decisions: Decisions,
        inputs: list[LocalFile] | None = None,
        settings: dict[str, str] = SETTINGS,
    ) -> RecordedRun:
        self.runs += 1
        facts = RunFacts(Digest.of(b"run %d" % self.runs), self.runs * 1000, "main.rf", settings)
        RunWriter(facts, decisions, inputs or []).write(self.connection)
        latest = self.reader.latest()
        assert latest is not None
        return latest

    def count(self, table: str) -> int:
        (count,) = self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)

    def reasons(self, run: RecordedRun) -> dict[str, Reason]:
        """Reasons by identifier."""
        reasons = Reasons(self.reader, run)
        found = [reasons.reason(entry) for entry in run.entries.values()]
        return {reason.node.ident: reason for reason in found}


@pytest.fixture
def book() -> Book:
    return Book()


def node(ident: str, text: str = "in", cmd: str = "run", image: str = "ubuntu") -> Exec:
    """An exec with one input file that has this text."""
    return an_exec(ident, Val(lone(text)), cmd=cmd, image=image)


def ran(
    *nodes: Exec, error: ReflowError | None = None, value: str | None = "out", miss: Miss | None = None
) -> Decisions:
    """Decisions of a run that executed them."""
    decisions = Decisions()
    for each in nodes:
        result = None if value is None or error is not None else Fileset(members=[lone(value)])
        values = [dep.value for dep in each.deps if isinstance(dep, Val)]
        task = Digest.of_text(f"task {each.ident}")
        decisions.ran(Execution(each, values, miss or Miss(), None, task, result, error, True))
    return decisions


def found(*nodes: Exec, value: str = "out") -> Decisions:
    """Decisions of a run that found them in the cache."""
    decisions = Decisions()
    for each in nodes:
        decisions.hit(each, None, Fileset(members=[lone(value)]), digest(each))
    return decisions


def test_a_run_is_found_again_as_it_was(book: Book) -> None:
    a, b = node("a"), node("b", text="other")
    decisions = ran(a)
    decisions.hit(b, None, lone("b"), Digest.of(b"physical"))
    run = book.write(decisions)
    by_ident = {row.ident: run.entries[row.number] for row in book.reader.nodes(run.numbers).values()}
    assert by_ident["a"].verdict is Verdict.NOT_FOUND
    assert by_ident["a"].task == Digest.of_text("task a")
    assert by_ident["b"].verdict is Verdict.HIT_EXACT
    assert [each.facts for each in book.reader.runs(DigestPrefix(run.facts.id[:3]))] == [run.facts]


def test_a_run_like_the_one_before_adds_one_row(book: Book) -> None:
    nodes = [node(f"n{number}", text=f"in{number}") for number in range(5)]
    book.write(ran(*nodes))
    counts = {table: book.count(table) for table in ("nodes", "lists", "texts", "filesets", "outcomes")}
    run = book.write(found(*reversed(nodes)))
    assert {table: book.count(table) for table in counts} == counts
    assert book.count("runs") == 2
    assert [entry.verdict for entry in run.entries.values()] == [Verdict.HIT_LOGICAL] * 5


def test_texts_and_filesets_are_kept_once(book: Book) -> None:
    book.write(ran(*[node(f"n{number}", cmd="same") for number in range(5)]))
    assert book.count("texts") == 1
    assert book.count("filesets") == 2
    assert book.count("nodes") == 1, "equal execs are one"


def test_outcomes_and_notes_are_kept(book: Book) -> None:
    failed = book.write(ran(node("a"), error=ReflowError(Kind.DOCKER_EXEC, "exec", cause="exited with 3")))
    (entry,) = failed.entries.values()
    assert entry.outcome == FAILED
    assert "exited with 3" in entry.error
    stopped = book.write(ran(node("a"), value=None))
    assert [each.outcome for each in stopped.entries.values()] == [UNFINISHED]
    lost = book.write(ran(node("a"), miss=Miss(Verdict.OBJECTS_MISSING, "2 files: x, y")))
    (entry,) = lost.entries.values()
    assert (entry.outcome, entry.detail) == (ENDED_WELL, "2 files: x, y")


def test_what_was_executed_counts_over_what_was_found_before(book: Book) -> None:
    a = node("a")
    run = book.write(found(a), ran(a))
    assert [entry.verdict for entry in run.entries.values()] == [Verdict.NOT_FOUND]


def test_many_files_are_named_by_their_contents_only(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "MAX_FILES", 3)
    many = Fileset({str(number): File(Digest.of_text(str(number)), 1) for number in range(4)})
    wide = an_exec("wide", Val(many))
    decisions = Decisions()
    decisions.ran(Execution(wide, [many], Miss(), value=Fileset(members=[lone("x")])))
    run = book.write(decisions)
    (row,) = book.reader.nodes(run.numbers).values()
    assert book.reader.listing(row.parts.inputs[0]) is None


def test_long_texts_and_odd_paths_come_back(book: Book) -> None:
    odd = Fileset({"a\udcff\n'": File(Digest.of(b"odd"), 3)})
    command = "x" * 5000 + "\udcfe"
    strange = an_exec("str\udcffange", Val(odd), cmd=command)
    decisions = Decisions()
    decisions.ran(Execution(strange, [odd], Miss(), value=Fileset(members=[odd])))
    run = book.write(decisions)
    (row,) = book.reader.nodes(run.numbers).values()
    assert row.ident == "str\udcffange"
    assert book.reader.with_command(row).command == strange.cmd
    (file,) = book.reader.listing(row.parts.inputs[0]) or ()
    assert file.path == "a\udcff\n'"


def test_the_oldest_runs_are_forgotten(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "KEPT_RUNS", 2)
    for number in range(4):
        book.write(ran(node(f"n{number}", text=f"{number}")))
    assert book.count("runs") == 2
    assert book.count("lists") == 2
    latest = book.reader.latest()
    assert latest is not None
    assert latest.facts.start_us == 4000


# Reasons.


def test_something_new_has_no_past(book: Book) -> None:
    reason = book.reasons(book.write(ran(node("a"))))["a"]
    assert (reason.nearest, reason.earlier, reason.changes) == (None, None, ())
    assert reason.title == "it is new"


@pytest.mark.parametrize(
    ("now", "title"),
    [
        (node("a", cmd="edited"), "command changed"),
        (node("a", text="other"), "input {{in0}} changed"),
        (node("a", image="debian"), "image changed"),
        (node("a", image="debian", text="other"), "image and input {{in0}} changed"),
    ],
)
def test_what_changed_is_told(book: Book, now: Exec, title: str) -> None:
    book.write(ran(node("a")))
    assert book.reasons(book.write(ran(now)))["a"].title == title


def test_a_renamed_exec_is_recognised_by_its_command(book: Book) -> None:
    book.write(ran(node("old", cmd="tool")))
    reason = book.reasons(book.write(ran(node("new", cmd="tool", text="other"))))["new"]
    assert reason.nearest is not None
    assert reason.nearest.ident == "old"


def test_of_several_that_one_is_nearest_that_went_away(book: Book) -> None:
    book.write(ran(*[node("a", text=f"in{number}") for number in range(4)]))
    kept = [node("a", text=f"in{number}") for number in range(3)]
    decisions = found(*kept)
    decisions.executed += ran(node("a", text="in9")).executed
    run = book.write(decisions)
    (entry,) = [each for each in run.entries.values() if each.verdict.is_executed]
    reason = Reasons(book.reader, run).reason(entry)
    (change,) = reason.changes
    assert change.files[0].then is not None
    assert change.files[0].then.name == Digest.of(b"in3").hex()


def test_of_several_commands_the_nearest_is_compared(book: Book) -> None:
    book.write(ran(*[node("a", cmd=f"tool --sample {name}") for name in ("anna", "bertha", "clara")]))
    now = [node("a", cmd=f"tool -x --sample {name}") for name in ("anna", "bertha", "clara")]
    run = book.write(ran(*now))
    reasons = Reasons(book.reader, run)
    for entry in run.entries.values():
        (change,) = reasons.reason(entry).changes
        then, after = change.lines
        assert then[2:].split()[2:3] == after[2:].split()[3:4]


def test_a_key_that_was_there_before_is_compared_with_that_run(book: Book) -> None:
    book.write(ran(node("a"), error=ReflowError(Kind.OOM, "exec")))
    reason = book.reasons(book.write(ran(node("a"))))["a"]
    assert reason.title == "it failed before"
    assert reason.earlier is not None
    assert reason.earlier.entry.outcome == FAILED
    again = book.reasons(book.write(ran(node("a"))))["a"]
    assert again.title == "its key is not new, but nothing is cached under it any more"


def test_files_are_traced_to_where_they_came_from(book: Book, tmp_path: Path) -> None:
    path = tmp_path / "reads.txt"
    path.write_text("local")
    local = LocalFile(str(path), os.stat(path))
    local.hash()
    up = node("up", text="local")
    down = an_exec("down", Val(lone("out")))
    decisions = ran(up)
    decisions.ran(Execution(down, [lone("out")], Miss(), value=Fileset(members=[lone("end")])))
    run = book.write(decisions, inputs=[local])
    rows = {row.ident: row for row in book.reader.nodes(run.numbers).values()}
    origins = Origins(book.reader, run)

    def origin(ident: str) -> str:
        name = rows[ident].parts.inputs[0]
        (file,) = book.reader.listing(name) or ()
        return origins.of_file(file, name, rows[ident].number)[0]

    assert origin("up") == f"file {path}"
    assert origin("down") == f"output out of up {digest(up).short}"


def test_an_exec_that_writes_its_input_is_not_where_that_came_from(book: Book) -> None:
    copy = node("copy", text="same")
    run = book.write(ran(copy, value="same"))
    (row,) = book.reader.nodes(run.numbers).values()
    (file,) = book.reader.listing(row.parts.inputs[0]) or ()
    text, written_by = Origins(book.reader, run).of_file(file, row.parts.inputs[0], row.number)
    assert (text, written_by) == ("made by the program", None)
