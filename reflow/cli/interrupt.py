"""Signals: the first interrupts the command in good order, the second ends the process at once.

SIGINT (Ctrl-C), SIGTERM and SIGHUP mean the same. A signal that was ignored when we were started stays so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

CLEANING_UP = "cleaning up..."
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The signals of this process. Without a hook the first one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self._hook: Callable[[], None] | None = None
        self._last_resort: Callable[[], None] | None = None
        self._count = 0

    def install(self) -> None:
        """Begin to listen; for the main thread."""
        for number in _SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                signal.signal(number, self._handle)

    def on_first(self, hook: Callable[[], None] | None) -> None:
        """Call ``hook``, which hands over to an event loop, instead of raising; at once if it is late."""
        self._hook = hook
        if hook is not None and self._count:
            hook()

    def on_second(self, last_resort: Callable[[], None] | None) -> None:
        """What to do before the process ends without clean-up; must not wait."""
        self._last_resort = last_resort

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            if self._last_resort is not None:
                self._last_resort()
            os._exit(1)
        if self._hook is None:
            raise KeyboardInterrupt
        self._hook()
