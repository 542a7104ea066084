from __future__ import annotations

import io
import time

import pytest

from reflow.cli.status import Display, render
from reflow.runtime.status import FINISHED_VISIBLE_S, Status, elapsed_text
from tests.waiting import wait_until


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4, "4s"), (124, "2m4s"), (600, "10m"), (3157, "52m"), (3600, "1h0m"), (9000, "2h30m")],
)
def test_elapsed_time_gets_coarser(seconds: int, text: str) -> None:
    assert elapsed_text(seconds) == text


def test_rows_are_aligned_below_their_group() -> None:
    status = Status()
    group = status.group("82e63a7a")
    group.show("elapsed: 2m30s, executing:1, completed: 3/5")
    now = time.monotonic()
    for title, age_s in (("align.reference", 124.5), ("b", 3.5)):
        group.row(title, f"exec {title}").began = now - age_s
    assert render(status, now, None) == [
        "82e63a7a: elapsed: 2m30s, executing:1, completed: 3/5",
        "  align.reference:  exec align.reference  2m4s",
        "  b:                exec b                3s",
    ]


def test_equal_rows_are_merged() -> None:
    status = Status()
    group = status.group("run")
    now = time.monotonic()
    for age_s in (5, 100):
        group.row("a", "waiting").began = now - age_s
    assert render(status, now, None) == ["run: ", "  a[2]:  waiting  5s-1m40s"]


def test_rows_that_ended_go_after_a_while() -> None:
    status = Status()
    group = status.group("run")
    row = group.row("a", "exec")
    group.done(row, "exec done 4B")
    assert row.ended is not None
    assert len(render(status, row.ended + FINISHED_VISIBLE_S - 1, None)) == 2
    assert len(render(status, row.ended + FINISHED_VISIBLE_S + 1, None)) == 1


def test_lines_fit_the_terminal_and_oldest_rows_go_first() -> None:
    status = Status()
    group = status.group("run")
    group.show("x" * 100)
    for number in range(50):
        group.row(f"title.of.row.{number}", "y" * 80)
    lines = render(status, time.monotonic(), (60, 10))
    assert len(lines) == 9
    assert max(len(line) for line in lines) < 60
    assert lines[-1].lstrip().startswith("title.of.")


def test_what_is_copied_has_a_bar() -> None:
    status = Status()
    group = status.group("run")
    row = group.row("in", "")
    group.update(row, "intern copying 1.0GiB of 4.0GiB", 0.25)
    now = row.began + 3
    line = "  in:  [#####...............]  25% intern copying 1.0GiB of 4.0GiB  3s"
    assert render(status, now, None) == ["run: ", line]
    group.done(row, "intern done 4.0GiB")
    assert render(status, now, None)[1].startswith("  in:  intern done 4.0GiB")


def test_memory_in_use_stands_beside_the_time() -> None:
    status = Status()
    group = status.group("run")
    gauges = {"mem": float(1 << 30)}
    for began_ago_s in (5, 6):
        row = group.row("a", "exec x")
        row.gauges = gauges
        row.began -= began_ago_s
    now = time.monotonic()
    assert render(status, now, None)[1] == "  a[2]:  exec x  5s 2.0GiB"
    gauges["mem"] *= 2
    assert render(status, now, None)[1] == "  a[2]:  exec x  5s 4.0GiB"


def test_a_heading_may_be_made_when_it_is_drawn() -> None:
    status = Status()
    group = status.group("run")
    group.show("old")
    group.ask = lambda: "now"
    assert render(status, 0.0, (80, 20)) == ["run: now"]


def test_colors_tell_how_it_is_and_take_no_room() -> None:
    status = Status()
    group = status.group("run")
    group.show("x" * 100)
    group.done(group.row("good", "exec done"), "exec done")
    group.done(group.row("bad", "exec"), "exec error", is_failed=True)
    group.row("busy", "exec")
    heading, good, bad, busy = render(status, time.monotonic(), (40, 20), is_colored=True)
    assert heading == f"\x1b[1m{('run: ' + 'x' * 100)[:39]}\x1b[0m"
    assert good.startswith("\x1b[2m  good:")
    assert bad.startswith("\x1b[31m  bad:")
    assert busy.startswith("  busy:")
    assert "\x1b" not in "".join(render(status, time.monotonic(), (40, 20)))


def test_empty_groups_are_left_out_on_a_terminal() -> None:
    status = Status()
    status.group("idle")
    assert render(status, 0.0, (80, 20)) == []
    assert render(status, 0.0, None) == ["idle: "]


def test_output_goes_above_the_live_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    status = Status()
    status.group("run").show("busy")
    display = Display(stream, status)
    display.start()
    wait_until(lambda: "run: busy\n" in stream.getvalue())
    display.write("a message\n")
    display.stop()
    assert "\x1b[1A\x1b[2Ka message\nrun: busy\n" in stream.getvalue()
    assert stream.getvalue().endswith("run: busy\n\x1b[1A\x1b[2K")


def test_nothing_is_drawn_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    status = Status()
    status.group("run").show("busy")
    display = Display(stream, status)
    display.start()
    display.write("a message\n")
    time.sleep(0.3)
    display.stop()
    assert stream.getvalue() == "a message\n"
