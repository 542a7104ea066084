"""A run as a Chrome trace (``-tracer=localtracer``), to be seen in ``chrome://tracing`` or Perfetto.

Rows: process 0 is the run itself, process 1 this machine's work; each node has a thread of its own, and so
have look-ups in the cache. Categories: Run, Exec, Transfer, Cache.
Source: trace/localtrace.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
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
        return dump_json({"traceEvents": self._events}) + b"\n"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime(_RFC850)
