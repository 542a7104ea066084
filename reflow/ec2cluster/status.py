"""The line that says what a cluster consists of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from reflow.core.resources import NO_RESOURCES, Resources
from reflow.ec2cluster.catalog import Catalog


class Demand(NamedTuple):
    """Resources that somebody waits for, and those of machines that are on their way."""

    waiting: Resources
    pending: Resources


def status_text(
    catalog: Catalog, types: Iterable[str], region: str, disk_gib: float, demand: Demand | None = None
) -> str:
    """Numbers of machines by type, what they cost at most, and all that they have."""
    counts = Counter(types)
    total = NO_RESOURCES
    price = 0.0
    for name, count in counts.items():
        total = total + catalog.resources(name, region, disk_gib).scaled(count)
        price += (catalog.price(name, region) or 0.0) * count
    words = ",".join([f"{name}:{counts[name]}" for name in sorted(counts)])
    text = f"{counts.total()} instances: {words} (<=${price:.1f}/hr), total{total}"
    if demand is not None:
        text += f", waiting{demand.waiting}, pending{demand.pending}"
    return text
