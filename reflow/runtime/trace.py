"""A run as a Chrome trace (``-tracer=localtracer``), to be seen in ``chrome://tracing`` or Perfetto.

Rows: process 0 is the run itself, process 1 this machine's work. All spans of a node share a row, which in
the file is a thread, and nodes that do not overlap in time share rows too: 10 000 execs on 8 CPUs have
some 8 rows. Categories: Run, Exec, Transfer, Cache.
Source: trace/localtrace.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from reflow.core.digest import Digest
from reflow.core.gojson import dump_json

RUN_PROCESS, EXEC_PROCESS = 0, 1
_RFC850 = "%A, %d-%b-%y %H:%M:%S %Z"


class Trace:
    """Spans of one run, for the file at ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._events: list[dict[str, Any]] = []

    def add(
        self,
        category: str,
        name: str,
        began_s: float,
        *,
        process: int = EXEC_PROCESS,
        thread: int = 0,
        notes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Add a span that ends now. Times are in seconds since 1970."""
        ended_s = time.time()
        self._events.append(
            {
                "pid": process,
                "tid": thread,
                "ts": int(began_s * 1e6),
                "ph": "X",
                "dur": int((ended_s - began_s) * 1e6),
                "name": name,
                "cat": category,
                "args": {"beginTime": _clock(began_s), "endTime": _clock(ended_s), **notes},
            }
        )

    def span(self, category: str, name: str, id: Digest, began_s: float, notes: Mapping[str, str]) -> None:
        """Add a span that ends now, in the row of what it belongs to."""
        self.add(category, name, began_s, thread=int.from_bytes(id[:4], "big"), notes=notes)

    def content(self) -> bytes:
        """The file so far."""
        rows = _rows(self._events)
        events = [{**event, "tid": rows[event["pid"], event["tid"]]} for event in self._events]
        return dump_json({"traceEvents": events}) + b"\n"


def _rows(events: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], int]:
    """Assign rows: (process, thread) of each node -> the lowest row of that process which is free by then."""
    extents: dict[tuple[int, int], tuple[int, int]] = {}
    for event in events:
        key, began, ended = (event["pid"], event["tid"]), event["ts"], event["ts"] + event["dur"]
        first, last = extents.get(key, (began, ended))
        extents[key] = min(first, began), max(last, ended)
    rows: dict[tuple[int, int], int] = {}
    busy: dict[int, list[tuple[int, int]]] = {}
    free: dict[int, list[int]] = {}
    for key, (began, ended) in sorted(extents.items(), key=lambda item: (item[1], item[0])):
        until, idle = busy.setdefault(key[0], []), free.setdefault(key[0], [])
        while until and until[0][0] <= began:
            heapq.heappush(idle, heapq.heappop(until)[1])
        rows[key] = heapq.heappop(idle) if idle else len(until)
        heapq.heappush(until, (ended, rows[key]))
    return rows


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime(_RFC850)
