"""The figures of the alloc scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from reflow.core.backoff import Backoff
from reflow.core.resources import Resources

_MIN_ALLOC = Resources(mem=float(1 << 30), cpu=1.0, disk=float(1 << 30))
_LOST = Backoff(1.0, 60.0, 2.0, 8)
_ALLOCATION = Backoff(1.0, 60.0, 2.0, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When the scheduler does what. Times are in seconds.

    Submissions are collected until none came for ``drain_s``, ``drain_limit_s`` at most. At most
    ``max_pending`` allocs are asked for at a time, none with less than ``min_alloc``.

    Tasks go by priority, then the smallest first. One that fits nowhere holds up larger ones for ``pass_s``.
    One that has waited for ``patience_s`` goes before all others of its priority, and an alloc that is
    large enough is kept for it. A request for an alloc that is not answered within ``stale_s`` counts for
    one task only, so that further ones are made for the others.

    Allocs are released when they were idle for ``idle_s``, or for ``squeeze_s`` while tasks wait that fit
    nowhere; when one waits for ``starve_s`` that fits no alloc there is, one after the other is given up.
    An alloc that loses ``max_strikes`` tasks in a row is given up too.

    A lost task is tried again ``lost.retries`` times. When there is no alloc, and none was got in
    ``allocation.retries`` tries and one more, tasks fail.
    """

    max_pending: int = 5
    min_alloc: Resources = _MIN_ALLOC
    drain_s: float = 0.05
    drain_limit_s: float = 0.5
    idle_s: float = 300.0
    pass_s: float = 1.0
    patience_s: float = 60.0
    stale_s: float = 120.0
    squeeze_s: float = 10.0
    starve_s: float = 600.0
    max_strikes: int = 3
    lost: Backoff = _LOST
    allocation: Backoff = _ALLOCATION
