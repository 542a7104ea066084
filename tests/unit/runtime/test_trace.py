"""Traces: nodes share rows, and none covers another."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reflow.core.digest import Digest
from reflow.runtime.trace import EXEC_PROCESS, RUN_PROCESS, Trace, _rows


def span(process: int, thread: int, began: int, ended: int) -> dict[str, Any]:
    return {"pid": process, "tid": thread, "ts": began, "dur": ended - began}


def test_nodes_that_follow_each_other_share_a_row() -> None:
    rows = _rows([span(1, 70, 0, 10), span(1, 80, 10, 20), span(1, 90, 5, 12)])
    assert rows == {(1, 70): 0, (1, 90): 1, (1, 80): 0}


def test_spans_of_one_node_share_a_row_though_time_passes_between_them() -> None:
    rows = _rows([span(1, 70, 0, 10), span(1, 70, 50, 60), span(1, 80, 20, 30)])
    assert rows[1, 70] != rows[1, 80]


def test_processes_have_rows_of_their_own() -> None:
    assert set(_rows([span(0, 0, 0, 100), span(1, 5, 0, 10)]).values()) == {0}


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 100), st.integers(0, 20)).map(
            lambda drawn: span(1, drawn[0], drawn[1], drawn[1] + drawn[2])
        )
    )
)
def test_no_two_nodes_of_a_row_overlap(events: list[dict[str, Any]]) -> None:
    rows = _rows(events)
    extents: dict[tuple[int, int], tuple[int, int]] = {}
    for event in events:
        key = (event["pid"], event["tid"])
        first, last = extents.get(key, (event["ts"], event["ts"]))
        extents[key] = min(first, event["ts"]), max(last, event["ts"] + event["dur"])
    for one, row in rows.items():
        for other, other_row in rows.items():
            if one != other and row == other_row:
                assert extents[one][1] <= extents[other][0] or extents[other][1] <= extents[one][0]


def test_the_file_has_rows_instead_of_digests() -> None:
    trace = Trace("unused")
    trace.add("Run", "p.rf", 1.0, process=RUN_PROCESS)
    trace.span("Exec", "a", Digest.of(b"a"), 1.0, {"FlowID": "x"})
    events = json.loads(trace.content())["traceEvents"]
    assert [(event["pid"], event["tid"]) for event in events] == [(RUN_PROCESS, 0), (EXEC_PROCESS, 0)]
    assert events[1]["args"]["FlowID"] == "x"
