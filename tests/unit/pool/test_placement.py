"""Which offers are taken, how much of them, and which allocs make room."""

from __future__ import annotations

import pytest

from reflow.core.resources import Requirements, Resources
from reflow.pool.placement import Held, collect_for, offer_of, order_offers, share_of

GIB = float(1 << 30)
TOTAL = Resources(mem=16 * GIB, cpu=8, disk=100 * GIB)


def of(cpu: float, mem: float | None = None, disk: float = 10) -> Resources:
    return Resources(cpu=cpu, mem=(cpu if mem is None else mem) * GIB, disk=disk * GIB)


@pytest.mark.parametrize(
    ("minimum", "width", "offers", "order"),
    [
        (4, 0, [2, 3], []),
        (2, 0, [8, 2, 1], [1, 0]),
        (2, 1, [8, 2, 3, 4], [3, 0, 2, 1]),
        (1, 3, [1, 1, 16, 5], [3, 2, 0, 1]),
    ],
)
def test_the_nearest_to_what_could_be_used_comes_first(
    minimum: float, width: int, offers: list[float], order: list[int]
) -> None:
    wanted = Requirements(of(minimum, disk=0), width)
    assert order_offers([of(cpu) for cpu in offers], wanted) == order


def test_only_so_many_offers_are_looked_at() -> None:
    offers = [of(float(100 - number)) for number in range(50)]
    assert order_offers(offers, Requirements(of(1)), 3) == [49, 48, 47]


def test_a_share_is_what_could_be_used() -> None:
    assert share_of(TOTAL, Requirements(of(2, 2, 5), 1)) == of(4, 4, 10)


@pytest.mark.parametrize("wanted", [of(8, 1), of(1, 16), of(1, 1, 100), of(3, 1, 40).scaled(3)])
def test_all_is_taken_when_something_would_be_used_up(wanted: Resources) -> None:
    assert share_of(TOTAL, Requirements(wanted)) == TOTAL


def test_what_is_not_needed_is_not_taken() -> None:
    rich = TOTAL + Resources(intel_avx=8)
    assert "intel_avx" not in share_of(rich, Requirements(of(1)))


def test_an_offer_is_all_that_no_living_alloc_holds() -> None:
    held = [Held("a", of(2), -60.0), Held("b", of(4), 1.0)]
    assert offer_of(TOTAL, held) == TOTAL - of(2)


def test_there_is_no_offer_when_something_is_used_up() -> None:
    assert offer_of(TOTAL, [Held("a", of(8, 1), -1.0)]) is None


@pytest.mark.parametrize(
    ("want", "collected"),
    [(of(1), []), (of(4), ["old"]), (of(6), ["old", "new"]), (of(7), None)],
)
def test_allocs_that_expired_first_make_room(want: Resources, collected: list[str] | None) -> None:
    held = [Held("new", of(2), 5.0), Held("old", of(2), 50.0), Held("living", of(2), -5.0)]
    assert collect_for(TOTAL, held, want) == collected
