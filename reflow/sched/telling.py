"""What is said of a task that gets ready: also that it waits for room, for as long as it does."""

from __future__ import annotations

from collections.abc import Callable

WAITING = "waiting"
"""What is said of a task that has nothing to do but to wait for room."""

STARTING = "starting"

Tell = Callable[[str, int, int], None]


class Telling:
    """Passes on what a task does, as (what, done bytes, all bytes), and tells anew when its room comes.

    Of a task that never said anything nothing is told: all know that it waits.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._is_waiting = False
        self._last: tuple[str, int, int] | None = None

    def does(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """The task gets ready."""
        self._last = what, done_bytes, total_bytes
        self._say()

    def is_ready(self) -> None:
        """It has nothing more to do before it has room."""
        if self._last is not None:
            self._last = STARTING, 0, 0
            self._say()

    def waits(self, is_waiting: bool) -> None:
        """It waits for room, or has it, or wants none."""
        is_news = is_waiting is not self._is_waiting
        self._is_waiting = is_waiting
        if is_news and self._last is not None:
            self._say()

    def _say(self) -> None:
        assert self._last is not None
        what, done_bytes, total_bytes = self._last
        if self._is_waiting:
            what = WAITING if what == STARTING else f"{WAITING}, {what}"
        self._tell(what, done_bytes, total_bytes)
