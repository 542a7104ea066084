"""The display of what is going on, below the ordinary output on stderr.

On a terminal an area of a few lines is drawn anew, at most ten times a second, with bars for what is copied
and in colors unless NO_COLOR is set; elsewhere the same text is appended, plain, at most once a minute.
Source: grailbio/base/status, Reporter.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TextIO

from reflow.core.units import format_duration, format_size
from reflow.runtime.status import Group, Row, Status

_REDRAW_S = 0.1
_REFRESH_S = 1.0
_FIRST_DUMP_S = 50.0
_DUMP_S = 60.0
_CLEAR_LINE = "\x1b[1A\x1b[2K"
_MIN_TITLE = 10
_FALLBACK = (80, 20)
_BAR = 20
_BOLD, _DIM, _RED, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"


class _Merged:
    """Rows of equal title and text, shown as one."""

    __slots__ = ("count", "is_ended", "is_failed", "mem", "newest", "oldest", "title", "value")

    def __init__(self, row: Row, age: float) -> None:
        self.title = row.title
        self.value = row.value if row.share is None else f"{_bar(row.share)} {row.value}"
        self.count = 1
        self.mem = row.gauges.get("mem", 0.0)
        self.newest = self.oldest = age
        self.is_ended = row.ended is not None
        self.is_failed = row.is_failed

    def add(self, row: Row, age: float) -> None:
        self.count += 1
        self.mem += row.gauges.get("mem", 0.0)
        self.newest = min(self.newest, age)
        self.oldest = max(self.oldest, age)

    @property
    def cells(self) -> tuple[str, str, str]:
        """Title, value, elapsed time and what is used."""
        title = f"{self.title}[{self.count}]:" if self.count > 1 else f"{self.title}:"
        age = format_duration(self.newest)
        if self.oldest - self.newest > 60:
            age = f"{age}-{format_duration(self.oldest)}"
        if self.mem:
            age = f"{age} {format_size(self.mem)}"
        return title, self.value, age

    def colored(self, line: str) -> str:
        """The line in the color that says how it is with the rows."""
        if self.is_failed:
            return f"{_RED}{line}{_PLAIN}"
        return f"{_DIM}{line}{_PLAIN}" if self.is_ended else line


def _bar(share: float) -> str:
    full = round(share * _BAR)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {share:4.0%}"


def _merge(rows: list[Row], now: float) -> list[_Merged]:
    merged: dict[tuple[str, str], _Merged] = {}
    for row in rows:
        age = (row.ended if row.ended is not None else now) - row.began
        known = merged.get((row.title, row.value))
        if known is None:
            merged[row.title, row.value] = _Merged(row, age)
        else:
            known.add(row, age)
    return list(merged.values())


def render(
    status: Status, now: float, size: tuple[int, int] | None, *, is_colored: bool = False
) -> list[str]:
    """Lines of the display; ``size`` is columns and lines, or None for no limits (and all groups)."""
    blocks: list[tuple[str, list[_Merged]]] = []
    for group in list(status.groups):
        group.prune(now)
        rows = _merge(list(group.rows), now)
        heading = _heading(group)
        if heading or rows or size is None:
            blocks.append((f"{group.title}: {heading}", rows))
    if size is not None:
        _drop_oldest(blocks, size[1] - 1)
    lines: list[str] = []
    for heading, rows in blocks:
        head = heading if size is None else heading[: size[0] - 1]
        lines.append(f"{_BOLD}{head}{_PLAIN}" if is_colored else head)
        table = _table([row.cells for row in rows], None if size is None else size[0] - 1)
        if is_colored:
            table = [row.colored(line) for row, line in zip(rows, table, strict=True)]
        lines += table
    return lines


def _heading(group: Group) -> str:
    """What is beside a group's title: as of now, where that can be told."""
    ask = group.ask
    return group.value if ask is None else ask()


def _drop_oldest(blocks: list[tuple[str, list[_Merged]]], height: int) -> None:
    """Leave out the oldest rows until everything fits."""
    surplus = sum(1 + len(rows) for _, rows in blocks) - height
    for _, rows in blocks:
        if surplus <= 0:
            return
        dropped = min(surplus, len(rows))
        del rows[:dropped]
        surplus -= dropped


def _table(rows: list[tuple[str, str, str]], width: int | None) -> list[str]:
    if not rows:
        return []
    title_width = max(len(title) for title, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    age_width = max(len(age) for _, _, age in rows)
    if width is not None:
        surplus = 2 + title_width + 2 + value_width + 2 + age_width - width
        cut = max(0, min(surplus, value_width))
        value_width -= cut
        title_width -= max(0, min(surplus - cut, title_width - _MIN_TITLE))
    return [
        f"  {title[:title_width]:<{title_width}}  {value[:value_width]:<{value_width}}  {age}".rstrip()
        for title, value, age in rows
    ]


class Display:
    """Writes ordinary output and keeps the live area below it. Safe to use from any thread."""

    def __init__(self, stream: TextIO, status: Status) -> None:
        self.status = status
        self._stream = stream
        self._is_terminal = _is_terminal(stream)
        self._is_colored = not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._drawn = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def write(self, text: str) -> None:
        """Write whole lines of ordinary output, above the live area."""
        with self._lock:
            self._clear()
            self._put(text)
            if self._thread is not None and self._is_terminal:
                self._draw()

    def start(self) -> None:
        """Begin to show the status."""
        if self._thread is None:
            target = self._redraw_loop if self._is_terminal else self._dump_loop
            self._thread = threading.Thread(target=target, name="status", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take the live area away and show no more."""
        if self._thread is not None:
            self._stop.set()
            with self._lock:
                self._thread = None
                self._clear()

    def _redraw_loop(self) -> None:
        shown, drawn_at = -1, 0.0
        while not self._stop.wait(_REDRAW_S):
            now = time.monotonic()
            if self.status.version == shown and now - drawn_at < _REFRESH_S:
                continue
            shown, drawn_at = self.status.version, now
            with self._lock:
                if self._thread is not None:
                    self._clear()
                    self._draw()

    def _dump_loop(self) -> None:
        shown, pause = -1, _FIRST_DUMP_S
        while not self._stop.wait(pause):
            pause = _DUMP_S
            if self.status.version == shown:
                continue
            shown = self.status.version
            lines = render(self.status, time.monotonic(), None)
            with self._lock:
                if self._thread is not None and lines:
                    self._put("\n".join(lines) + "\n")

    def _draw(self) -> None:
        lines = render(self.status, time.monotonic(), self._size(), is_colored=self._is_colored)
        self._put("".join([line + "\n" for line in lines]))
        self._drawn = len(lines)

    def _clear(self) -> None:
        if self._drawn:
            self._put(_CLEAR_LINE * self._drawn)
            self._drawn = 0

    def _put(self, text: str) -> None:
        if not text:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._is_terminal = False  # nobody reads stderr any more: there is nowhere to say so

    def _size(self) -> tuple[int, int]:
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except OSError:
            return _FALLBACK
        return columns or _FALLBACK[0], lines or _FALLBACK[1]


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
