"""Getting an alloc from a pool: the best offer that nobody else took first."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, MutableSequence

from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.resources import Requirements
from reflow.pool import Alloc, AllocMeta, Offer, Pool
from reflow.pool.placement import order_offers, share_of

MAX_ROUNDS = 6
"""How often offers are looked at before there is said to be none."""


async def allocate(
    pool: Pool,
    wanted: Requirements,
    *,
    owner: str = "",
    labels: Mapping[str, str] | None = None,
    shuffle: Callable[[MutableSequence[Offer]], None] = random.shuffle,
) -> Alloc:
    """Accept an offer with the minimum at least. Raises UNAVAILABLE when there is none, or what else failed.

    Offers are shuffled first, so that several who look at equal ones do not all want the same.
    Source: pool/pool.go, Allocate.
    """
    for _ in range(MAX_ROUNDS):
        try:
            alloc = await _round(pool, wanted, owner, labels or {}, shuffle)
        except ReflowError as err:
            raise ReflowError(Kind.UNAVAILABLE, "pool.allocate", wanted, cause=err) from err
        if alloc is not None:
            return alloc
    raise ReflowError(Kind.UNAVAILABLE, "pool.allocate", wanted, cause="too many tries")


async def _round(
    pool: Pool,
    wanted: Requirements,
    owner: str,
    labels: Mapping[str, str],
    shuffle: Callable[[MutableSequence[Offer]], None],
) -> Alloc | None:
    offers = list(await pool.offers())
    shuffle(offers)
    for number in order_offers([offer.available for offer in offers], wanted):
        offer = offers[number]
        share = share_of(offer.available, wanted)
        if not any(share.values()):
            continue
        try:
            return await offer.accept(AllocMeta(want=share, owner=owner, labels=labels))
        except ReflowError as err:
            # Somebody else was faster.
            if kind_of(err) is not Kind.NOT_EXIST:
                raise
    return None
