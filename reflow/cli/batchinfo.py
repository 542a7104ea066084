"""``reflow batchinfo``: each run of a batch in full."""

from __future__ import annotations

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.cli.info import run_block
from reflow.cli.listbatch import read_batch
from reflow.cli.output import tabulate
from reflow.cli.runbatch import BATCH_CONFIG

_DETAILS = """\
Batchinfo shows each run of a batch as "reflow info" does, and where its log is.

"reflow runbatch -help" tells about batches."""


def run(app: App, arguments: Arguments) -> int:
    """Show runs by id."""
    from reflow.runtime.batchfile import BatchFiles

    files = BatchFiles(arguments["batchconfig"])
    for entry in read_batch(files.state):
        block = run_block(entry.state) if entry.has_begun else ""
        app.write(tabulate(f"run {entry.id}: {entry.run_id.short}\n{block}\tlog:\t{files.log(entry.id)}\n"))
    return 0


COMMAND = Command("batchinfo", "batchinfo", _DETAILS, run, flags=[BATCH_CONFIG])
