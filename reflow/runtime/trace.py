"""A run as a Chrome trace (``-tracer=localtracer``), to be seen in ``chrome://tracing`` or Perfetto.

Rows: process 0 is the run itself, process 1 this machine's execs; each node has a thread of its own.
Source: trace/localtrace.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

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
        notes: dict[str, str] | None = None,
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
                "args": {"beginTime": _clock(began_s), "endTime": _clock(ended_s), **(notes or {})},
            }
        )

    def content(self) -> bytes:
        """The file so far."""
        return dump_json({"traceEvents": self._events}) + b"\n"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime(_RFC850)
