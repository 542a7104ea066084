"""What people read of a reason."""

from __future__ import annotations

import sqlite3

import pytest

from reflow.cli.reasontext import reason_lines, summary_lines
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.eval.explain import Decisions, Execution, Miss, Verdict
from reflow.flow.node import Exec, Val
from reflow.runtime.explain import SCHEMA, RunFacts, RunWriter
from reflow.runtime.explainread import Reader
from reflow.runtime.reason import Reasons
from tests.fakes import an_exec


class Told:
    """Runs in a record in memory, and what is told of the last one."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in SCHEMA.create:
            self.connection.execute(statement)
        self.runs = 0

    def run(self, *executions: Execution, executor: str = "docker", cache: str = "readwrite") -> None:
        self.runs += 1
        decisions = Decisions()
        decisions.executed += executions
        settings = {"executor": executor, "cache": cache}
        facts = RunFacts(Digest.of(b"run %d" % self.runs), self.runs * 10**6, "main.rf", settings)
        RunWriter(facts, [decisions], []).write(self.connection)

    def text(self) -> str:
        reader = Reader(self.connection)
        latest = reader.latest()
        assert latest is not None
        reasons = Reasons(reader, latest)
        lines = [line for entry in latest.entries.values() for line in reason_lines(reasons, entry)]
        return "\n".join(lines)

    def summary(self) -> list[str]:
        reader = Reader(self.connection)
        latest = reader.latest()
        assert latest is not None
        return list(summary_lines(Reasons(reader, latest), list(latest.entries.values()), is_full=False))


@pytest.fixture
def told() -> Told:
    return Told()


def lone(text: str) -> Fileset:
    return Fileset.of_file(File(Digest.of_text(text), len(text)))


def executed(
    node: Exec, *, miss: Miss | None = None, error: ReflowError | None = None, image: str | None = None
) -> Execution:
    values = [dep.value for dep in node.deps if isinstance(dep, Val)]
    value = None if error is not None else Fileset(members=[lone("out")])
    return Execution(node, values, miss or Miss(), image, Digest.of(b"task"), value, error, True)


def test_an_image_is_told_by_its_digest(told: Told) -> None:
    told.run(executed(an_exec("a"), image="index.docker.io/library/ubuntu@sha256:00"))
    assert "  image ubuntu is index.docker.io/library/ubuntu@sha256:00" in told.text()


def test_results_of_another_executor_are_no_hits(told: Told) -> None:
    told.run(executed(an_exec("a")), executor="docker")
    told.run(executed(an_exec("a")), executor="process")
    assert "under the executor docker; what this machine's own tools make is kept apart" in told.text()


def test_a_run_that_wrote_nothing_is_blamed(told: Told) -> None:
    told.run(executed(an_exec("a")), cache="read")
    told.run(executed(an_exec("a")))
    assert "executed it, but wrote nothing to the cache (-cache=read)" in told.text()


def test_a_failure_of_now_and_of_before_are_shown(told: Told) -> None:
    error = ReflowError(Kind.DOCKER_EXEC, "exec", cause="exited with\ncode 3")
    told.run(executed(an_exec("a"), error=error))
    told.run(executed(an_exec("a"), error=error))
    text = told.text()
    assert text.startswith(f"a {an_short()} was executed: it failed before")
    assert text.count("exited with code 3") == 2


def an_short() -> str:
    from reflow.flow.digest import digest

    return digest(an_exec("a")).short


def test_details_of_a_miss_follow_its_text(told: Told) -> None:
    told.run(executed(an_exec("a"), miss=Miss(Verdict.OBJECTS_MISSING, "1 files (9B): a3721467")))
    assert "no longer in the repository: 1 files (9B): a3721467" in told.text()


def test_a_long_diff_and_many_files_are_cut(told: Told) -> None:
    def wide(mark: str) -> Exec:
        files = {f"{number:03}": File(Digest.of_text(f"{mark}{number}"), 1) for number in range(30)}
        lines = "\n".join([f"{mark} {number}" for number in range(60)])
        return an_exec("a", Val(Fileset(files)), cmd=lines)

    told.run(executed(wide("old")))
    told.run(executed(wide("new")))
    text = told.text()
    assert "and 80 lines more" in text
    assert "and 20 files more" in text


def test_the_summary_counts_by_name_and_reason(told: Told) -> None:
    told.run(*[executed(an_exec("a", Val(lone(f"{number}")), cmd="old")) for number in range(3)])
    edited = [executed(an_exec("a", Val(lone(f"{number}")), cmd="new")) for number in range(3)]
    told.run(*edited, executed(an_exec("bb", cmd="never seen")))
    assert sorted(told.summary()) == ["  a      3  command changed", "  bb     1  it is new"]
