"""One session for all runs of a batch: modules are opened once, local files are read once.

What a program traces, and which local files it meets, is still told by run: each is evaluated in a context of
its own.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from reflow.flow.data import LocalFile
from reflow.lang.session import Session
from reflow.runtime.log import Log

if TYPE_CHECKING:
    from reflow.lang.module_store import ModuleStore

_log: contextvars.ContextVar[Log] = contextvars.ContextVar("log")
_files: contextvars.ContextVar[dict[LocalFile, None]] = contextvars.ContextVar("files")


class SharedSession(Session):
    """A session of several runs. What is told outside of any goes to ``log``."""

    def __init__(self, log: Log, store: ModuleStore | None) -> None:
        super().__init__(note=self._tell, trace=self._tell, store=store)
        self._shared_log = log

    def _tell(self, line: str) -> None:
        _log.get(self._shared_log).info(line)

    def enter(self, log: Log) -> dict[LocalFile, None]:
        """Begin a run in the calling task: what it tells goes to ``log``, its local files to the answer."""
        files: dict[LocalFile, None] = {}
        _log.set(log)
        _files.set(files)
        return files

    def local_file(self, path: str) -> LocalFile:
        """The local file at a path, the same object each time. Raises OSError when it is not there."""
        file = super().local_file(path)
        files = _files.get(None)
        if files is not None:
            files[file] = None
        return file
