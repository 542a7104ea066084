"""What machines cost, in USD.

Source: tool/cost.go, Cost.
"""

from __future__ import annotations

from typing import NamedTuple

from reflow.ec2cluster.catalog import Catalog


class Cost(NamedTuple):
    """An amount in USD: exact, at most so much, or (``usd`` None) unknown."""

    usd: float | None = None
    is_exact: bool = False

    def __str__(self) -> str:
        if self.usd is None:
            return "<unknown>"
        return f"{self.usd:.4f}" if self.is_exact else f"<{self.usd:.4f}"

    def plus(self, other: Cost) -> Cost:
        """The sum; what is unknown adds nothing."""
        if self.usd is None or other.usd is None:
            return self if other.usd is None else other
        return Cost(self.usd + other.usd, self.is_exact and other.is_exact)

    def times(self, factor: float) -> Cost:
        """A part of it, or a multiple."""
        return self if self.usd is None else Cost(self.usd * factor, self.is_exact)


UNKNOWN_COST = Cost()


def on_demand_cost(catalog: Catalog, type_name: str, region: str, seconds: float) -> Cost:
    """The most that a machine costs for a time: spot prices are below those on demand."""
    price = catalog.price(type_name, region)
    return Cost(price * seconds / 3600.0) if price else UNKNOWN_COST
