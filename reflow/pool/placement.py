"""Which offer to take, how much of it, and which expired allocs make room: pure decisions.

Source: pool/pool.go, pickN and allocate; pool/resourcepool.go, (*ResourcePool).New and Offers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from reflow.core.resources import NO_RESOURCES, Requirements, Resources

MAX_OFFERS = 10
"""Offers that are tried in one round."""

_NEEDED = ("mem", "cpu", "disk")


def order_offers(available: Sequence[Resources], wanted: Requirements, limit: int = MAX_OFFERS) -> list[int]:
    """Indices of the best offers, the best first.

    Those that have all that could be used come first, then the others that have the minimum; the nearest to
    what could be used first. Equal ones keep their order.
    """
    most = wanted.maximum()
    able = [
        ((not offer.fits(most), offer.scaled_distance(most)), number)
        for number, offer in enumerate(available)
        if offer.fits(wanted.minimum)
    ]
    return [number for _, number in heapq.nsmallest(limit, able)]


def share_of(available: Resources, wanted: Requirements) -> Resources:
    """How much to take of an offer: what could be used, or all when little of use would be left."""
    share = Resources(
        {name: min(most, available.amount(name)) for name, most in wanted.maximum().items() if most}
    )
    left = available - share
    return available if any(left.amount(name) <= 0 for name in _NEEDED) else share


class Held(NamedTuple):
    """What an alloc holds of a pool; ``expired_for_s`` is negative while its lease lasts."""

    id: str
    resources: Resources
    expired_for_s: float

    @property
    def is_expired(self) -> bool:
        """Whether the lease has run out."""
        return self.expired_for_s > 0


def offer_of(total: Resources, held: Iterable[Held]) -> Resources | None:
    """What a pool offers: all that no living alloc holds; None when something essential is used up."""
    free = total
    for alloc in held:
        if not alloc.is_expired:
            free = free - alloc.resources
    return free if all(free.amount(name) > 0 for name in _NEEDED) else None


def collect_for(total: Resources, held: Sequence[Held], want: Mapping[str, float]) -> list[str] | None:
    """Ids of the expired allocs to end so that there is room; None when there cannot be.

    Those that expired first go first, and no more than needed.
    """
    used = NO_RESOURCES
    for alloc in held:
        used = used + alloc.resources
    expired = sorted([alloc for alloc in held if alloc.is_expired], key=lambda alloc: -alloc.expired_for_s)
    collected: list[str] = []
    while not (total - used).fits(want):
        if not expired:
            return None
        alloc = expired.pop(0)
        used = used - alloc.resources
        collected.append(alloc.id)
    return collected
