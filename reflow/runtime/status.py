"""What is going on now, as data: groups of rows. Drawn by `reflow.cli.status`.

Changed by the thread that runs the event loop, read by the thread that draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from reflow.core.units import format_duration

FINISHED_VISIBLE_S = 10.0


def elapsed_text(seconds: float) -> str:
    """Whole seconds below ten minutes, then minutes, then hours and minutes."""
    whole = int(seconds)
    if whole < 600:
        return format_duration(whole)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}h{minutes}m" if hours else f"{minutes}m"


class Row:
    """One piece of work. Times are of the monotonic clock, in seconds.

    ``share`` is how much of it is done, from 0 to 1, if that is known. ``gauges`` has what it uses now
    (memory in bytes as ``mem``), and changes as it runs.
    """

    __slots__ = ("began", "ended", "gauges", "is_failed", "share", "title", "value")

    def __init__(self, title: str, value: str) -> None:
        self.title = title
        self.value = value
        self.share: float | None = None
        self.gauges: Mapping[str, float] = {}
        self.is_failed = False
        self.began = time.monotonic()
        self.ended: float | None = None


class Group:
    """A heading with rows below it.

    ``ask``, if set, makes the text beside the heading when it is drawn; it is called by any thread.
    """

    __slots__ = ("_status", "ask", "rows", "title", "value")

    def __init__(self, status: Status, title: str) -> None:
        self._status = status
        self.title = title
        self.value = ""
        self.ask: Callable[[], str] | None = None
        self.rows: list[Row] = []

    def show(self, value: str) -> None:
        """Set the text beside the heading."""
        self.value = value
        self._status.changed()

    def row(self, title: str, value: str) -> Row:
        """Add a row."""
        row = Row(title, value)
        self.rows.append(row)
        self._status.changed()
        return row

    def update(self, row: Row, value: str, share: float | None = None) -> None:
        """Change a row's text, and how much of it is done."""
        if row.value != value or row.share != share:
            row.value = value
            row.share = share
            self._status.changed()

    def done(self, row: Row, value: str, *, is_failed: bool = False) -> None:
        """Say that a row's work has ended; it stays visible for a while."""
        row.value = value
        row.share = None
        row.gauges = {}
        row.is_failed = is_failed
        row.ended = time.monotonic()
        self._status.changed()

    def drop(self, row: Row) -> None:
        """Show a row no longer."""
        self.rows.remove(row)
        self._status.changed()

    def prune(self, now: float) -> None:
        """Forget rows that ended a while ago."""
        old = now - FINISHED_VISIBLE_S
        if any(row.ended is not None and row.ended < old for row in self.rows):
            self.rows = [row for row in self.rows if row.ended is None or row.ended >= old]


class Status:
    """All groups. ``version`` grows with each change."""

    __slots__ = ("groups", "version")

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.version = 0

    def changed(self) -> None:
        """Note that something is to be drawn anew."""
        self.version += 1

    def group(self, title: str) -> Group:
        """Add a group."""
        group = Group(self, title)
        self.groups.append(group)
        self.changed()
        return group

    def remove(self, group: Group) -> None:
        """Take a group away."""
        if group in self.groups:
            self.groups.remove(group)
            self.changed()
