from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from reflow.cli.output import clock_text, ctime_text, parse_when, tabulate


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_a_column_is_as_wide_as_its_widest_cell_in_neighbouring_lines() -> None:
    assert tabulate("a\tbb\tc\nlonger\tb\tc\n\none\tx") == "a      bb  c\nlonger b   c\n\none x"


def test_empty_cells_indent_by_four() -> None:
    assert tabulate("id (file)\n\tsize:\t12\n") == "id (file)\n    size: 12\n"


def test_the_longest_key_of_a_nested_column_moves_all() -> None:
    text = "\tparams:\n\t\twho:\tx\n\tphase:\tDone\n"
    assert tabulate(text) == "    params:\n           who: x\n    phase: Done\n"


def test_times_show_the_clock_then_the_day_then_the_date() -> None:
    now = datetime.now(UTC)
    recent = now.replace(hour=15, minute=4) if now.hour >= 16 else now
    hour = recent.hour % 12 or 12
    assert clock_text(recent) == f"{hour}:{recent.minute:02d}{'AM' if recent.hour < 12 else 'PM'}"
    older = now - timedelta(days=2)
    assert clock_text(older).startswith(older.strftime("%a"))
    oldest = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert clock_text(oldest) == "2020-01-02T03:04:05Z"
    assert clock_text(now, oldest).endswith("Z")


def test_ctime_pads_the_day() -> None:
    assert ctime_text(datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)) == "Thu Jan  2 03:04:05 2020"


def test_when_is_a_date_or_a_duration_ago() -> None:
    assert parse_when("2021-10-01") == datetime(2021, 10, 1, tzinfo=UTC)
    age_s = (datetime.now(UTC) - parse_when("1h30m")).total_seconds()
    assert 5399 < age_s < 5410
    with pytest.raises(ValueError, match="invalid value zz"):
        parse_when("zz")
