"""Tables and times as commands print them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from reflow.core.flagset import parse_duration
from reflow.eval.summary import tabulate as tabulate_rows

DIVIDER = "-" * 60
_DAY_S = 24 * 3600


def tabulate(text: str) -> str:
    """Align cells that end in tabs; the last cell of a line is never padded."""
    return "\n".join(tabulate_rows([line.split("\t") for line in text.split("\n")]))


def clock_text(moment: datetime, age_of: datetime | None = None) -> str:
    """``3:04PM``; with the weekday after a day, as RFC 3339 after six, in local time.

    ``age_of`` decides the form when given (a table shows the start's form for the end, too).
    """
    local = moment.astimezone()
    age_s = time.time() - (age_of or moment).timestamp()
    if age_s > 6 * _DAY_S:
        return rfc3339(local)
    hour = local.hour % 12 or 12
    clock = f"{hour}:{local.minute:02d}{'AM' if local.hour < 12 else 'PM'}"
    return f"{_WEEKDAYS[local.weekday()]}{clock}" if age_s > _DAY_S else clock


def rfc3339(moment: datetime) -> str:
    """``2006-01-02T15:04:05Z`` or with an offset; whole seconds."""
    text = moment.replace(microsecond=0).isoformat()
    return text.replace("+00:00", "Z")


def ctime_text(moment: datetime) -> str:
    """``Mon Jan _2 15:04:05 2006`` in local time."""
    local = moment.astimezone()
    month = _MONTHS[local.month - 1]
    return f"{_WEEKDAYS[local.weekday()]} {month} {local.day:2d} {local:%H:%M:%S} {local.year:04d}"


_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def parse_when(text: str) -> datetime:
    """Read a duration before now (``24h``) or a UTC date (``2021-10-01``). Raises ValueError."""
    try:
        return datetime.fromtimestamp(time.time() - parse_duration(text), UTC)
    except ValueError:
        pass
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"invalid value {text}: want YYYY-MM-DD or a duration such as 24h") from None
