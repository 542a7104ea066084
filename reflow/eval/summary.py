"""The table at the end of a run: per identifier, how often it ran or came from the cache, and what it used.

Source: flow/eval.go, (*Eval).LogSummary; flow/stats.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from reflow.core.execconfig import ExecInspect
from reflow.core.resources import NO_RESOURCES
from reflow.core.units import format_duration
from reflow.eval.attempt import MIN_EXEC

HEADER = ("ident", "n", "ncache", "runtime(m)", "cpu", "mem(GiB)", "disk(GiB)", "tmp(GiB)", "requested")
LOW_USE = 0.6
"""Share of the requested memory at or below which a request is called too large."""

_MIN_WIDTH = 4
_PADDING = 1
_GIB = 1 << 30


class _Spread:
    """Least, mean and greatest of some samples."""

    __slots__ = ("count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = self.least = self.greatest = 0.0

    def add(self, sample: float) -> None:
        self.least = min(self.least, sample) if self.count else sample
        self.greatest = max(self.greatest, sample) if self.count else sample
        self.total += sample
        self.count += 1

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def text(self, digits: int, scale: float = 1.0) -> str:
        return "/".join([f"{each * scale:.{digits}f}" for each in (self.least, self.mean, self.greatest)])


class _Row:
    """All nodes of one identifier."""

    __slots__ = ("cached", "count", "cpu", "disk", "measured", "mem", "requested", "runtime_min", "tmp")

    def __init__(self) -> None:
        self.count = 0
        self.cached = 0
        self.measured = 0
        self.runtime_min = _Spread()
        self.cpu = _Spread()
        self.mem = _Spread()
        self.disk = _Spread()
        self.tmp = _Spread()
        self.requested = NO_RESOURCES

    def measure(self, inspect: ExecInspect) -> None:
        profile = inspect.profile
        if inspect.config.type == "exec":
            self.measured += 1
            self.requested = inspect.config.resources
            for name, spread in (
                ("cpu", self.cpu),
                ("mem", self.mem),
                ("disk", self.disk),
                ("tmp", self.tmp),
            ):
                # A short exec may end before it is looked at; it counts as one that used nothing.
                if name in profile and profile[name].n:
                    spread.add(profile[name].mean if name == "cpu" else profile[name].max)
        if inspect.runtime_s > 0:
            self.runtime_min.add(inspect.runtime_s / 60)

    def cells(self, ident: str) -> list[str]:
        head = [ident, str(self.count), str(self.cached)]
        if not self.measured:
            # As many cells as any row has, or the columns of the others would fall apart.
            return [*head, "", "", "", "", "", ""]
        return [
            *head,
            self.runtime_min.text(0),
            self.cpu.text(1),
            self.mem.text(1, 1 / _GIB),
            self.disk.text(1, 1 / _GIB),
            self.tmp.text(1, 1 / _GIB),
            str(self.requested),
        ]

    @property
    def asks_too_much(self) -> bool:
        asked = self.requested.amount("mem")
        return bool(self.measured) and asked > MIN_EXEC.amount("mem") and self.mem.mean / asked <= LOW_USE


class Summary:
    """Collects one evaluation's external nodes; a few numbers per identifier."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self.count = 0

    def add(self, ident: str, *, cached: bool = False, inspect: ExecInspect | None = None) -> None:
        """Count a node that is done, well or not. ``inspect`` is that of its last attempt, if it ran."""
        row = self._rows.get(ident or "?")
        if row is None:
            row = self._rows[ident or "?"] = _Row()
        row.count += 1
        row.cached += cached
        self.count += 1
        if inspect is not None and inspect.profile:
            row.measure(inspect)

    def text(self, elapsed_s: float) -> str:
        """The table, without a final newline; empty when nothing was counted."""
        if not self.count:
            return ""
        rows = [(ident, self._rows[ident]) for ident in sorted(self._rows)]
        lines = [f"total n={self.count} time={format_duration(elapsed_s)}"]
        lines += ["\t" + line for line in tabulate([HEADER, *(row.cells(ident) for ident, row in rows)])]
        wasteful = [ident for ident, row in rows if row.asks_too_much]
        if wasteful:
            names = ", ".join(wasteful)
            lines.append(f"\twarning: reduce memory requirements for over-allocating execs: {names}")
        return "\n".join(lines)


def tabulate(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay rows of cells out in columns, as Go's tabwriter does.

    A column is as wide as the widest of the adjacent rows that have it; a row's last cell is in no column.
    """
    lines = [""] * len(rows)
    _fill(rows, 0, 0, len(rows), lines)
    return lines


def _fill(rows: Sequence[Sequence[str]], column: int, first: int, last: int, lines: list[str]) -> None:
    """Append the cells of ``rows[first:last]`` from ``column`` on."""
    row = first
    while row < last:
        if len(rows[row]) - 1 <= column:
            lines[row] += rows[row][column]
            row += 1
            continue
        end = row
        while end < last and len(rows[end]) - 1 > column:
            end += 1
        width = max(_MIN_WIDTH, *(len(rows[each][column]) + _PADDING for each in range(row, end)))
        for each in range(row, end):
            lines[each] += rows[each][column].ljust(width)
        _fill(rows, column + 1, row, end, lines)
        row = end
