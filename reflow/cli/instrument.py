"""Looking at this process while it works: profiles, memory statistics, and the status over HTTP.

Only imported when one of the global flags ``-cpuprofile``, ``-memprofile``, ``-memstatsduration`` or
``-http`` is given.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from reflow.cli.command import Fatal
from reflow.cli.failure import explain
from reflow.core.units import format_size

if TYPE_CHECKING:
    from reflow.cli.app import App

_CSV_HEADER = "Sys, StackInuse, StackSys, HeapInuse, HeapSys\n"


def instrumented(app: App, work: Callable[[], int]) -> int:
    """Do the work with what the global flags ask for; files are written on failure, too."""
    with ExitStack() as stack:
        try:
            if app.flags["http"]:
                stack.callback(serve_status(app, app.flags["http"]))
            if app.flags["memprofile"]:
                stack.callback(_memory_profile(app.flags["memprofile"]))
            if app.flags["cpuprofile"]:
                stack.callback(_cpu_profile(app.flags["cpuprofile"]))
            if app.flags["memstatsduration"] > 0:
                stack.callback(_memory_statistics(app))
        except (Fatal, OSError) as err:
            text, status = explain(err)
            app.write_error(text + "\n")
            return status
        return work()


def _cpu_profile(path: str) -> Callable[[], None]:
    """Start Python's profiler; the file is for the module ``pstats``."""
    import cProfile

    with open(path, "wb"):
        pass
    profile = cProfile.Profile()
    profile.enable()

    def finish() -> None:
        profile.disable()
        profile.dump_stats(path)

    return finish


def _memory_profile(path: str) -> Callable[[], None]:
    """Trace allocations; the file lists what was in use at the end by line of code."""
    import tracemalloc

    stream = open(path, "w", encoding="utf-8")  # noqa: SIM115  (closed by finish)
    tracemalloc.start()

    def finish() -> None:
        gc.collect()
        snapshot = tracemalloc.take_snapshot()
        with stream:
            for statistic in snapshot.statistics("lineno"):
                frame = statistic.traceback[0]
                stream.write(
                    f"{statistic.size} B in {statistic.count} blocks {frame.filename}:{frame.lineno}\n"
                )

    return finish


def _memory_figures() -> tuple[int, int, int]:
    """Resident memory, data and stack of this process in bytes; zeros where /proc is not."""
    try:
        with open("/proc/self/status", encoding="ascii") as stream:
            rows = dict(line.split(":", 1) for line in stream)
    except OSError:
        return 0, 0, 0
    resident, data, stack = (int(rows[name].split()[0]) * 1024 for name in ("VmRSS", "VmData", "VmStk"))
    return resident, data, stack


def _memory_statistics(app: App) -> Callable[[], None]:
    """Log memory figures at an interval, and append them to memstats.csv."""
    stop = threading.Event()
    is_new = not os.path.exists("memstats.csv")
    stream = open("memstats.csv", "a", encoding="ascii")  # noqa: SIM115  (closed by finish)
    if is_new:
        stream.write(_CSV_HEADER)

    def sample(note: str = "") -> None:
        if app.flags["memstatsgc"]:
            gc.collect()
        resident, data, stack = _memory_figures()
        now = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
        shown = [format_size(figure) for figure in (resident, stack, stack, data, data)]
        app.log.console(
            f"[{now}]: Sys {shown[0]}, Stack: {shown[1]}/{shown[2]} Heap: {shown[3]}/{shown[4]}{note}"
        )
        stream.write(f"{resident}, {stack}, {stack}, {data}, {data}\n")
        stream.flush()

    def loop() -> None:
        while not stop.wait(app.flags["memstatsduration"]):
            sample()

    thread = threading.Thread(target=loop, name="memstats", daemon=True)
    thread.start()

    def finish() -> None:
        stop.set()
        thread.join()
        sample(" (post GC)" if app.flags["memstatsgc"] else "")
        stream.close()

    return finish


def serve_status(app: App, address: str) -> Callable[[], None]:
    """Serve ``/debug/status`` and ``/debug/vars``; raises Fatal when the address cannot be had."""
    host, _, port = address.rpartition(":")

    class Handler(BaseHTTPRequestHandler):
        """Answers from the data of this invocation."""

        def do_GET(self) -> None:
            """Answer a request."""
            pages = {"/debug/status": _status_page, "/debug/vars": _vars_page}
            page = pages.get(self.path.split("?")[0])
            body, kind = page(app) if page is not None else ("404 page not found\n", "text/plain")
            data = body.encode("utf-8", "replace")
            self.send_response(200 if page is not None else 404)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged."""

    try:
        server = ThreadingHTTPServer((host, int(port)), Handler)
    except (OSError, ValueError, OverflowError) as err:
        reason = (err.strerror or str(err)).lower() if isinstance(err, OSError) else "want host:port or :port"
        raise Fatal(f"listen tcp {address}: {reason}") from err
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()

    def finish() -> None:
        server.shutdown()
        server.server_close()

    return finish


def _status_page(app: App) -> tuple[str, str]:
    from reflow.cli.status import render

    if app.display is None:
        return "", "text/plain"
    return "".join([f"{line}\n" for line in render(app.display.status, time.monotonic(), None)]), "text/plain"


def _vars_page(app: App) -> tuple[str, str]:
    resident, data, stack = _memory_figures()
    values = {
        "cmdline": sys.argv,
        "memstats": {"Sys": resident, "HeapSys": data, "StackSys": stack},
        **app.counters(),
    }
    return json.dumps(values, indent=1) + "\n", "application/json"
