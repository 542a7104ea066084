"""Which containers run in a local directory, asked from outside of its executor, without waiting.

For a run that wants to know what dead runs have left: the daemon may take its time, and nobody is held up.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection

from reflow.executor.docker_labels import LOCALDIR_LABEL, directory_of
from reflow.imagestore.host import UnsupportedHostError, socket_path

FRESH_S = 1.0
"""How long an answer is believed."""

_TIMEOUT_S = 10.0


class RunningContainers:
    """What the daemon has said last. Safe to use from one thread; it asks in others."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Collection[str] | None]] = {}
        self._asking: set[str] = set()
        self._lock = threading.Lock()

    def names(self, localdir: str) -> Collection[str] | None:
        """Names of the directories of execs whose containers run; None as long as that is not known.

        Returns at once; an answer that has grown old is asked for again meanwhile.
        """
        with self._lock:
            asked_s, found = self._known.get(localdir, (0.0, None))
            if time.monotonic() - asked_s > FRESH_S and localdir not in self._asking:
                self._asking.add(localdir)
                threading.Thread(target=self._ask, args=(localdir,), name="docker-left", daemon=True).start()
        return found

    def _ask(self, localdir: str) -> None:
        found = _names(localdir)
        with self._lock:
            self._known[localdir] = (time.monotonic(), found)
            self._asking.discard(localdir)


def _names(localdir: str) -> Collection[str] | None:
    # Imported on use: it is rarely asked, and HTTP takes long to import.
    from reflow.executor import docker_stream

    try:
        rows = docker_stream.running(socket_path(), f"{LOCALDIR_LABEL}={localdir}", _TIMEOUT_S)
    except (UnsupportedHostError, ConnectionRefusedError):
        return ()  # no daemon, no containers
    except (OSError, ValueError):
        return None
    return {os.path.basename(directory_of(row)) for row in rows}
