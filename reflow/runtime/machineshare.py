"""This machine among several runs: where their ledger is, and what goes on running of runs that are dead."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from functools import partial

from reflow.core.resources import Resources
from reflow.executor import execdir, manifest
from reflow.executor.docker_left import RunningContainers
from reflow.runtime.home import home
from reflow.sched.admission import amounts_of
from reflow.sched.ledger import Ledger
from reflow.sched.sharing import total_of

_OLD_S = 30 * 24 * 3600.0
"""A boot of this machine (or of another with the same home) that nobody has used for so long is over."""


def ledger_dir() -> str:
    """The directory of all ledgers of this user."""
    return os.path.join(home(), "machine")


def open_ledger(local_dir: str) -> Ledger | None:
    """Enter this machine's ledger; None when nothing can be written there: the run is then on its own."""
    ledger = Ledger(ledger_dir(), local_dir, partial(running_of, RunningContainers()))
    try:
        ledger.open()
    except OSError:
        ledger.close()
        return None
    _remove_old()
    return ledger


def running_of(containers: RunningContainers, local_dir: str, pid: int) -> dict[str, int]:
    """What execs hold that go on running though their run, the process ``pid``, is dead.

    Processes have the locks of their directories. Containers have not: the daemon is asked, and until it has
    answered all that have not ended count.
    """
    held = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{local_dir}/execs"):
            path = f"{local_dir}/execs/{name}"
            tenant = execdir.tenant_of(path)
            if tenant is None or tenant.owner != pid:
                continue
            if execdir.is_locked(path) or (
                tenant.executor == "docker" and _is_contained(containers, local_dir, path)
            ):
                found = manifest.read(path)
                if found is not None:
                    held.append(dict(amounts_of(Resources(found.resources))))
    return total_of(held)


def _is_contained(containers: RunningContainers, local_dir: str, path: str) -> bool:
    if execdir.ending_of(path) is not None:
        return False
    running = containers.names(local_dir)
    return running is None or os.path.basename(path) in running


def _remove_old() -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(ledger_dir()):
            if entry.stat().st_mtime < time.time() - _OLD_S:
                shutil.rmtree(entry.path, ignore_errors=True)
