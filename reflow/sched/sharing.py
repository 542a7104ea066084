"""Who goes first when several runs share a machine: pure decisions.

Each run tells the others what its tasks hold and, when some wait, what the one that has waited longest
wants. All runs look at the same figures and put all who wait into one order, so they agree without asking
each other, and whoever is first in it gives way to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Units = Mapping[str, int]
"""Amounts in whole units, as `reflow.sched.admission.amounts_of` makes them."""

FAIR_S = 1.0
"""How long a run lets those go before it that hold more than it does."""

SILENT_S = 5.0
"""One that waits looks around several times a second: one that has not for so long is stopped, or frozen."""


class Want(NamedTuple):
    """What waits longest in some run, and since when; that run's share of the machine, and its name."""

    units: Units
    since: float
    share: float
    name: str


class Rank(NamedTuple):
    """The place of one that waits among all: the smallest goes first."""

    group: int
    share: float
    since: float
    name: str


def rank_of(want: Want, now: float, patience_s: float) -> Rank:
    """Those that have waited too long by age; then those that have waited a little, the poorest first."""
    waited_s = now - want.since
    if waited_s >= patience_s:
        return Rank(0, 0.0, want.since, want.name)
    return Rank(1 if waited_s >= FAIR_S else 2, want.share, want.since, want.name)


def share_of(held: Units, total: Units) -> float:
    """The largest part of any resource of the machine that somebody holds."""
    return max([held.get(name, 0) / amount for name, amount in total.items() if amount > 0], default=0.0)


@dataclass(frozen=True, slots=True)
class Others:
    """The other runs of this machine: ``count`` live ones, whose tasks hold ``held``, and dead ones.

    ``orphaned`` is what execs hold that go on running though their runs are dead.
    """

    count: int = 0
    held: Units = field(default_factory=dict)
    orphaned: Units = field(default_factory=dict)
    wants: tuple[Want, ...] = ()

    @property
    def taken(self) -> dict[str, int]:
        """All that is not for us."""
        return total_of([self.held, self.orphaned])

    def go_before(self, mine: Want, free: Units, now: float, patience_s: float) -> bool:
        """Tell whether a task of ours leaves what is free to somebody else.

        It does for one that could start at once; for one that has waited too long in any case.
        """
        rank = rank_of(mine, now, patience_s)
        for want in self.wants:
            theirs = rank_of(want, now, patience_s)
            if theirs < rank and (theirs.group == 0 or (theirs.group == 1 and _fits(free, want.units))):
                return True
        return False


def total_of(parts: Iterable[Units]) -> dict[str, int]:
    """The sum of some amounts."""
    total: dict[str, int] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0) + amount
    return total


def _fits(free: Units, units: Units) -> bool:
    return all(free.get(name, amount) >= amount for name, amount in units.items())


ALONE = Others()
"""There is nobody else."""
