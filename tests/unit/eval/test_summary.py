from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from reflow.core.execconfig import ExecConfig, ExecInspect, ProfileEntry
from reflow.core.resources import Resources
from reflow.eval.summary import HEADER, Summary, tabulate

GIB = 1 << 30
ASKED = "{mem:1.0GiB cpu:16 disk:0B}"


def inspect(
    *, runtime_min: float = 0, cpu: float = 1, mem: float = 0, asked: float = GIB, kind: str = "exec"
) -> ExecInspect:
    config = ExecConfig(type=kind, resources=Resources(mem=asked, cpu=16.0, disk=0.0))  # type: ignore[arg-type]
    return ExecInspect(
        config=config,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        state="complete",
        runtime_s=runtime_min * 60,
        profile={"cpu": ProfileEntry(cpu * 2, cpu, 0, 1), "mem": ProfileEntry(mem, mem / 2, 0, 1)},
    )


def test_nothing_is_said_of_nothing() -> None:
    assert Summary().text(3) == ""


def test_the_table_has_least_mean_and_greatest() -> None:
    summary = Summary()
    summary.add("align.reference", cached=True)
    summary.add("align.align", inspect=inspect(runtime_min=17, cpu=15.6, mem=0.9 * GIB))
    summary.add("align.align", inspect=inspect(runtime_min=3, cpu=2, mem=0.7 * GIB))
    summary.add("")
    head, *lines = summary.text(4197.9).splitlines()
    assert head == "total n=4 time=1h9m57s"
    widths = (16, 4, 7, 11, 13, 12, 12, 12, 0)
    spread = ("3/10/17", "2.0/8.8/15.6", "0.7/0.8/0.9", "0.0/0.0/0.0", "0.0/0.0/0.0")
    table = [
        HEADER,
        ("?", "1", "0", "", "", "", "", ""),
        ("align.align", "2", "0", *spread, ASKED),
        ("align.reference", "1", "1", "", "", "", "", ""),
    ]
    expected = ["\t" + "".join(map(str.ljust, row, widths)) for row in table]
    assert [line.rstrip() for line in lines] == [line.rstrip() for line in expected]


def test_execs_that_ask_for_too_much_memory_are_named() -> None:
    summary = Summary()
    summary.add("greedy", inspect=inspect(mem=0.6 * GIB))
    summary.add("modest", inspect=inspect(mem=0.7 * GIB))
    summary.add("small", inspect=inspect(mem=1, asked=500 << 20))
    summary.add("100%", inspect=inspect(mem=1))
    last = summary.text(1).splitlines()[-1]
    assert last == "\twarning: reduce memory requirements for over-allocating execs: 100%, greedy"


def test_an_exec_too_short_to_be_measured_counts_as_one_that_used_nothing() -> None:
    summary = Summary()
    brief = inspect(mem=0)
    unseen = ProfileEntry(0, -1, 0, 0)
    profile = {"cpu": unseen, "mem": unseen, "disk": ProfileEntry(6, 6, 0, 1)}
    summary.add("brief", inspect=replace(brief, profile=profile))
    text = summary.text(1)
    assert "over-allocating execs: brief" in text
    assert text.splitlines()[2].split()[3:5] == ["0/0/0", "0.0/0.0/0.0"]


def test_transfers_have_a_run_time_only() -> None:
    summary = Summary()
    summary.add("copy", inspect=inspect(kind="extern", runtime_min=5))
    assert summary.text(1).splitlines()[2].split() == ["copy", "1", "0"]


def test_columns_are_as_wide_as_their_block() -> None:
    rows = [["a", "b", "end"], ["long cell", "x", "e"], ["only one column"], ["y", "", "z"]]
    assert tabulate(rows) == ["a         b   end", "long cell x   e", "only one column", "y       z"]
