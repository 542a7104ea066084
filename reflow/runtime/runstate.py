"""The files of a run: its state, the previous state, its lock; and where its log and graph go.

All are named by the 64 digits of the run's id. The state is replaced atomically after each phase, and its
form is that of the original. Source: runner/runner.go, State; grailbio/base/state.
"""

from __future__ import annotations

import enum
import fcntl
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import ReflowError, error_from_json
from reflow.core.gojson import dump_json, load_json, parse_time, time_text


class Phase(enum.IntEnum):
    """How far a run is."""

    INIT = 0
    EVAL = 1
    RETRY = 2
    DONE = 3

    def __str__(self) -> str:
        return self.name.capitalize()


class RunState:
    """The state of a run, as its file holds it."""

    def __init__(self, id: Digest, program: str, params: dict[str, str], args: list[str]) -> None:
        self.id = id
        self.program = program
        self.params = params
        self.args = args
        self.phase = Phase.INIT
        self.result = ""
        self.error: ReflowError | None = None
        self.attempt = 0
        self.last_try: datetime | None = None
        self.created: datetime | None = None
        self.completion: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields in the order of the file."""
        return {
            "ID": str(self.id),
            "Program": self.program,
            "Params": {name: self.params[name] for name in sorted(self.params)} or None,
            "Args": self.args,
            "Phase": int(self.phase),
            "Result": self.result,
            "Err": None if self.error is None else self.error.to_json(),
            "AttemptNumber": self.attempt,
            "LastTry": time_text(self.last_try),
            "Created": time_text(self.created),
            "Completion": time_text(self.completion),
            "TotalResources": None,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> RunState:
        """Read what `to_json` wrote. Raises ValueError, KeyError or TypeError."""
        state = cls(Digest.parse(row["ID"]), row["Program"], row.get("Params") or {}, row.get("Args") or [])
        state.phase = Phase(row["Phase"])
        state.result = row.get("Result") or ""
        state.error = error_from_json(row["Err"]) if row.get("Err") else None
        state.attempt = int(row.get("AttemptNumber") or 0)
        state.last_try = parse_time(row.get("LastTry"))
        state.created = parse_time(row.get("Created"))
        state.completion = parse_time(row.get("Completion"))
        return state

    def __str__(self) -> str:
        """What the run log says of the state."""
        if self.phase is Phase.DONE:
            return f"done error {self.error}" if self.error is not None else f"done result {self.result}"
        if self.phase is Phase.RETRY:
            when = self.last_try.astimezone().replace(microsecond=0).isoformat() if self.last_try else "never"
            return f"retry (last attempt at: {when}) due to: {self.error}"
        return self.phase.name.lower()


class RunFiles(NamedTuple):
    """The paths of a run's files."""

    base: str

    @classmethod
    def of(cls, directory: str, id: Digest) -> RunFiles:
        """The files of a run in the directory of runs."""
        return cls(os.path.join(directory, id.hex()))

    @property
    def state(self) -> str:
        """The state."""
        return self.base + ".json"

    @property
    def log(self) -> str:
        """The log."""
        return self.base + ".runlog"

    @property
    def graph(self) -> str:
        """The evaluation graph."""
        return self.base + ".gv"

    @property
    def drawing(self) -> str:
        """The graph as a picture."""
        return self.base + ".svg"

    @property
    def trace(self) -> str:
        """The Chrome trace."""
        return self.base + ".trace"


def is_file_locked(path: str) -> bool:
    """Whether some process has the lock of a file; not when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def replace_state(base: str, data: bytes) -> None:
    """Write the state of a run or a batch at once; the one before stays as ``.bak``. Raises OSError."""
    scratch, state, backup = f"{base}.write{os.getpid()}", f"{base}.json", f"{base}.bak"
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(data)
    if os.path.exists(state):
        if os.path.exists(backup):
            os.unlink(backup)
        os.link(state, backup)
    os.rename(scratch, state)


class StateFile:
    """The state file of a run that this process does: locked while it is open."""

    def __init__(self, files: RunFiles) -> None:
        self.files = files
        self._lock = os.open(files.base + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o755)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def save(self, state: RunState) -> None:
        """Replace the state; the one before stays as ``.bak``."""
        replace_state(self.files.base, dump_json(state.to_json()) + b"\n")

    def close(self) -> None:
        """Let go of the lock; the lock file stays."""
        os.close(self._lock)


def read_state(path: str) -> RunState:
    """Read a state file. Raises OSError, or ValueError for what is no state."""
    with open(path, "rb") as stream:
        data = stream.read()
    try:
        return RunState.from_json(load_json(data))
    except (KeyError, TypeError) as err:
        raise ValueError(f"not the state of a run: {err}") from err


def find_runs(directory: str, prefix: DigestPrefix) -> Iterator[RunFiles]:
    """The runs in a directory whose ids begin with ``prefix`` and that have a state."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    digits = str(prefix)
    for name in names:
        stem, extension = os.path.splitext(name)
        if extension == ".json" and stem.startswith(digits) and len(stem) == 64:
            yield RunFiles(os.path.join(directory, stem))
