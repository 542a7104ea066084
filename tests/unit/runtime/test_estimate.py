from __future__ import annotations

import pytest

from reflow.runtime import estimate
from reflow.runtime.estimate import Estimate


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(estimate, "time", clock)
    return clock


def test_nothing_is_said_before_something_has_ended(clock: Clock) -> None:
    left = Estimate()
    assert left.left_s() is None
    left.waits("a")
    left.begins(1, "a")
    assert left.left_s() is None


def test_each_name_takes_as_long_as_it_did(clock: Clock) -> None:
    left = Estimate()
    for key, ident, seconds in ((1, "long", 60.0), (2, "short", 2.0)):
        left.waits(ident)
        left.begins(key, ident)
        clock.now_s += seconds
        left.ends(key, ident, counts=True)
    for ident in ("long", "short", "short"):
        left.waits(ident)
    assert left.left_s() == pytest.approx(64)
    left.begins(3, "long")
    clock.now_s += 50
    assert left.left_s() == pytest.approx(10 + 4)


def test_what_runs_at_once_shares_the_work(clock: Clock) -> None:
    left = Estimate()
    left.waits("a")
    left.begins(0, "a")
    clock.now_s += 10
    left.ends(0, "a", counts=True)
    for _ in range(8):
        left.waits("a")
    left.begins(1, "a")
    left.begins(2, "a")
    assert left.left_s() == pytest.approx(40)


def test_a_name_not_seen_yet_takes_the_usual_time(clock: Clock) -> None:
    left = Estimate()
    left.waits("a")
    left.begins(0, "a")
    clock.now_s += 8
    left.ends(0, "a", counts=True)
    left.waits("other")
    assert left.left_s() == pytest.approx(8)


def test_failures_teach_nothing_and_what_never_began_waits_no_more(clock: Clock) -> None:
    left = Estimate()
    left.waits("a")
    left.begins(0, "a")
    clock.now_s += 8
    left.ends(0, "a", counts=False)
    assert left.left_s() is None
    left.waits("a")
    left.ends(1, "a", counts=False)
    assert left.left_s() is None
