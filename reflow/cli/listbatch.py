"""``reflow listbatch``: one line for each run of a batch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.cli.output import tabulate
from reflow.cli.runbatch import BATCH_CONFIG

if TYPE_CHECKING:
    from reflow.runtime.batchstate import BatchEntry

_DETAILS = """\
Listbatch shows the state of each run of a batch in one line:

	id     the id of the run in the batch
	run    the id of the run itself: "reflow info", "reflow logs" and "reflow ps" know it
	state  waiting, running, retrying, done, interrupted, or the error that it ended with

How many there are of each is told on stderr. "reflow runbatch -help" tells about batches."""


def run(app: App, arguments: Arguments) -> int:
    """List runs by id."""
    from reflow.runtime.batchfile import BatchFiles
    from reflow.runtime.batchstate import is_batch_locked

    files = BatchFiles(arguments["batchconfig"])
    entries = read_batch(files.state)
    is_running = is_batch_locked(files.state)
    states = [(entry, state_text(entry, is_running=is_running)) for entry in entries]
    app.write(tabulate("".join([f"{entry.id}\t{entry.run_id.short}\t{text}\n" for entry, text in states])))
    if states:
        counts = Counter([_word(entry, text) for entry, text in states])
        shown = ", ".join([f"{count} {word}" for word, count in sorted(counts.items())])
        app.log.info(f"{len(states)} {'run' if len(states) == 1 else 'runs'}: {shown}")
    return 0


def read_batch(base: str) -> list[BatchEntry]:
    """The runs of a batch by id, each with its newest state; none when there is no batch."""
    from reflow.runtime.batchstate import read_entries

    entries = read_entries(f"{base}.json")
    for entry in entries.values():
        entry.read_own_state()
    return [entries[id] for id in sorted(entries)]


def state_text(entry: BatchEntry, *, is_running: bool) -> str:
    """How far a run is. What is under way while nobody does the batch was interrupted."""
    from reflow.runtime.runstate import Phase

    state = entry.state
    if state.phase is Phase.DONE:
        return "done" if state.error is None else " ".join(state.error.text(": ").split())
    if not is_running and entry.has_begun:
        return "interrupted"
    return {Phase.INIT: "waiting", Phase.EVAL: "running", Phase.RETRY: "retrying"}[state.phase]


def _word(entry: BatchEntry, text: str) -> str:
    return "failed" if entry.state.error is not None and entry.is_settled else text


COMMAND = Command("listbatch", "listbatch", _DETAILS, run, flags=[BATCH_CONFIG])
