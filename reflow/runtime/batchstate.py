"""What is remembered of a batch: which runs it has, and how far each is.

``state.json`` in the batch's directory lists the runs with the ids of their own states, which are in the
directory of runs, one file each, like those of all runs. So that a directory that is copied elsewhere still
tells what happened, the list also has each run's last known state; the run's own file is newer and wins.
The form is that of the original, with two names more. Source: batch/batch.go, BatchState and Run.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, kind_of
from reflow.core.gojson import dump_json, load_json
from reflow.runtime.batchfile import BatchError
from reflow.runtime.home import runs_dir
from reflow.runtime.runstate import Phase, RunFiles, RunState, is_file_locked, read_state, replace_state


class BatchEntry:
    """One run of a batch.

    ``argv`` are the words of the command line that come after the row's own parameters. ``sources`` names the
    program's text. Together with ``params`` they say what the state is of.
    """

    def __init__(
        self,
        id: str,
        program: str,
        params: Mapping[str, str],
        argv: Sequence[str],
        run_id: Digest,
        sources: Digest | None,
    ) -> None:
        self.id = id
        self.program = program
        self.params = dict(params)
        self.argv = list(argv)
        self.run_id = run_id
        self.sources = sources
        self.state = RunState(run_id, program, self.params, self.argv)

    def is_same(self, other: BatchEntry) -> bool:
        """Whether both would compute the same, as far as can be told from what is written."""
        return (
            (self.program, self.params, self.argv) == (other.program, other.params, other.argv)
            and (self.sources is None or other.sources is None or self.sources == other.sources)
        )  # fmt: skip

    @property
    def is_settled(self) -> bool:
        """Whether it came to an end by itself: what was interrupted did not."""
        state = self.state
        return state.phase is Phase.DONE and kind_of(state.error) is not Kind.CANCELED

    @property
    def has_begun(self) -> bool:
        """Whether anything is known of its state."""
        return self.state.phase is not Phase.INIT or self.state.created is not None

    def to_json(self) -> dict[str, Any]:
        """The entry as the list has it."""
        return {
            "ID": self.id,
            "Program": self.program,
            "Args": self.params,
            "Argv": self.argv or None,
            "RunID": str(self.run_id),
            "Sources": None if self.sources is None else str(self.sources),
            "State": self.state.to_json() if self.has_begun else None,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> BatchEntry:
        """Read what `to_json`, or the original, wrote. Raises ValueError, KeyError or TypeError."""
        sources = row.get("Sources")
        entry = cls(
            row["ID"],
            row["Program"],
            row.get("Args") or {},
            row.get("Argv") or [],
            Digest.parse(row["RunID"]),
            Digest.parse(sources) if sources else None,
        )
        if row.get("State"):
            entry.state = RunState.from_json(row["State"])
        return entry

    def read_own_state(self) -> None:
        """Take the state from the run's own file, if there is one that can be read."""
        try:
            self.state = read_state(RunFiles.of(runs_dir(), self.run_id).state)
        except (OSError, ValueError):
            return  # never begun, or removed: what the list says counts


def read_entries(path: str) -> dict[str, BatchEntry]:
    """The runs that a list has, by id; nothing when there is no list. Raises BatchError for a damaged one."""
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        return {}
    try:
        rows = load_json(data).get("Runs") or {}
        return {id: BatchEntry.from_json(row) for id, row in rows.items() if row is not None}
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise BatchError(f"{path} is damaged ({err}): remove it, and no run counts as done") from err


class BatchLock:
    """Held by the process that does a batch; nobody else may then."""

    def __init__(self, base: str) -> None:
        self._descriptor = os.open(f"{base}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o755)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise BatchError(f"another process does this batch now (it has locked {base}.lock)") from None

    def close(self) -> None:
        """Let others do it; the file stays."""
        os.close(self._descriptor)


def is_batch_locked(base: str) -> bool:
    """Whether some process does a batch now."""
    return is_file_locked(f"{base}.lock")


def write_entries(base: str, id: Digest, entries: Mapping[str, BatchEntry]) -> None:
    """Replace the list; the one before stays as ``.bak``. Raises OSError."""
    rows = {name: entries[name].to_json() for name in sorted(entries)}
    replace_state(base, dump_json({"ID": str(id), "Runs": rows}) + b"\n")
