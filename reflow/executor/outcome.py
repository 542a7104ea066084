"""From the way a command ended to the error that its exec has.

One table, the same for all executors (first match wins): 0 is success; 75 is a passing failure; then every
sign of memory having run out; the rest is a failed command, with lines of its output that may say why.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.executor.layout import STREAMS

TEMPORARY_EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: the command asks to be tried again."""

KILLED_EXIT_CODE = 137
"""128 + SIGKILL: what the kernel's out-of-memory killer leaves."""

_HINT_WORDS = (b"panic", b"error", b"Error", b"ERROR")
_GO_OUT_OF_MEMORY = (b"runtime: out of memory", b"runtime: cannot allocate memory")
_MAX_SCAN_BYTES = 4 << 20
_MAX_HINTS = 20
_MAX_HINT_CHARS = 400


class Ending(NamedTuple):
    """How a command ended: exit code (128 + n for signal n), who killed it for memory, its killing signal.

    ``is_wanted``: somebody asked for its end (``reflow kill``).
    """

    code: int
    oom: str = ""
    signal: int = 0
    is_wanted: bool = False


class LogSigns(NamedTuple):
    """What a command's output says about its failure."""

    hints: list[str]
    is_go_oom: bool


def failure(id: Digest, ending: Ending, logs: Mapping[str, str], machinery: str) -> ReflowError | None:
    """The error of an exec; None for exit code 0.

    ``logs`` are the files with its output, by stream; ``machinery`` is what ran it, such as docker.
    Source: local/docker.go, (*dockerExec).wait.
    """
    code = ending.code
    if code == 0:
        return None
    if code == TEMPORARY_EXIT_CODE:
        text = f"exec returned exit code {code} (considered temporary)"
        return ReflowError(Kind.TEMPORARY, "exec", id, cause=text)
    if ending.is_wanted:
        return ReflowError(Kind.DOCKER_EXEC, "exec", id, cause="killed by reflow kill")
    if ending.oom:
        return ReflowError(Kind.OOM, "exec", id, cause=f"killed by OOM killer ({ending.oom})")
    signs = read_signs(logs)
    if signs.is_go_oom:
        return ReflowError(Kind.OOM, "exec", id, cause="detected golang OOM error")
    if code == KILLED_EXIT_CODE:
        return ReflowError(Kind.OOM, "exec", id, cause=f"{machinery} returned possible OOM exit code {code}")
    text = f"exited with code {code}{_signal_text(ending)}"
    if signs.hints:
        text += " (hints from exec logs):\n" + "\n".join(signs.hints)
    return ReflowError(Kind.DOCKER_EXEC, "exec", id, cause=text)


def read_signs(logs: Mapping[str, str]) -> LogSigns:
    """Look through the ends of a command's stderr and stdout; no more than 4 MiB of each."""
    hints: list[str] = []
    is_go_oom = False
    for stream in reversed(STREAMS):
        lines = _tail_lines(logs[stream])
        is_go_oom = is_go_oom or any(sign in line for _, line in lines for sign in _GO_OUT_OF_MEMORY)
        hints += _hints(stream, lines)
    return LogSigns(hints, is_go_oom)


def _hints(stream: str, lines: Iterable[tuple[int, bytes]]) -> list[str]:
    hints = [
        f"({stream}) line {number}: {line[:_MAX_HINT_CHARS].decode('utf-8', 'replace').rstrip()}"
        for number, line in lines
        if any(word in line for word in _HINT_WORDS)
    ]
    return hints[-_MAX_HINTS:]


def _tail_lines(path: str) -> list[tuple[int, bytes]]:
    """Numbered lines of a file; of a long one, those of its last part."""
    try:
        with open(path, "rb") as file:
            skip_bytes = max(0, os.fstat(file.fileno()).st_size - _MAX_SCAN_BYTES)
            first = 1
            while skip_bytes > 0 and (chunk := file.read(min(skip_bytes, 1 << 20))):
                skip_bytes -= len(chunk)
                first += chunk.count(b"\n")
            return list(enumerate(file.read(_MAX_SCAN_BYTES).splitlines(), first))
    except OSError:
        return []


def _signal_text(ending: Ending) -> str:
    number = ending.signal or (ending.code - 128 if ending.code > 128 else 0)
    try:
        name = signal.Signals(number).name if number else ""
    except ValueError:
        return ""
    if not name:
        return ""
    return f" (killed by {name})" if ending.signal else f" (as by {name})"
