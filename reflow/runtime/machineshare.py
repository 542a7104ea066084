"""This machine among several runs: where their ledger is, and what goes on running of runs that are dead."""

from __future__ import annotations

import contextlib
import os
import shutil
import time

from reflow.core.resources import Resources
from reflow.executor import execdir, manifest
from reflow.runtime.home import home
from reflow.sched.ledger import Ledger
from reflow.sched.local import amounts_of
from reflow.sched.sharing import total_of

_OLD_S = 30 * 24 * 3600.0
"""A boot of this machine (or of another with the same home) that nobody has used for so long is over."""


def ledger_dir() -> str:
    """The directory of all ledgers of this user."""
    return os.path.join(home(), "machine")


def open_ledger(local_dir: str) -> Ledger | None:
    """Enter this machine's ledger; None when nothing can be written there: the run is then on its own."""
    ledger = Ledger(ledger_dir(), local_dir, running_of)
    try:
        ledger.open()
    except OSError:
        ledger.close()
        return None
    _remove_old()
    return ledger


def running_of(local_dir: str, pid: int) -> dict[str, int]:
    """What execs hold that go on running though their run, the process ``pid``, is dead.

    They have the locks of their directories. (Containers have not: what dead runs have left of those counts
    when the next run takes them over.)
    """
    held = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{local_dir}/execs"):
            path = f"{local_dir}/execs/{name}"
            tenant = execdir.tenant_of(path)
            if tenant is None or tenant.owner != pid or not execdir.is_locked(path):
                continue
            found = manifest.read(path)
            if found is not None:
                held.append(dict(amounts_of(Resources(found.resources))))
    return total_of(held)


def _remove_old() -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(ledger_dir()):
            if entry.stat().st_mtime < time.time() - _OLD_S:
                shutil.rmtree(entry.path, ignore_errors=True)
