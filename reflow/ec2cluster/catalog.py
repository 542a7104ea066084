"""The table of instance types: sizes, features, prices by region.

One JSON object a line. Prices are in USD per hour, memory that agents were seen to offer is in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from reflow.core.resources import NO_RESOURCES, Resources

DEFAULT_REGION = "us-west-2"
"""Whose memory figures stand for regions where a type was not tried."""

_GIB = float(1 << 30)


class InstanceType(NamedTuple):
    """One type. Memory seen and prices are by region; absent where nothing is known."""

    name: str
    vcpu: int
    mem_gib: float
    cpu_features: tuple[str, ...]
    seen_mem_bytes: Mapping[str, float]
    price_usd_per_hour: Mapping[str, float]

    def mem_bytes(self, region: str) -> float:
        """The memory to count on: what was seen in the region, else by default, else the advertised number.

        That last one counts gibibytes as bytes, as the original does: a type that nobody tried is chosen by
        no task.
        """
        for tried in (region, DEFAULT_REGION):
            if tried in self.seen_mem_bytes:
                return self.seen_mem_bytes[tried]
        return self.mem_gib

    def resources(self, region: str, disk_gib: float) -> Resources:
        """What a machine of this type gives."""
        vcpu = float(self.vcpu)
        features = dict.fromkeys(self.cpu_features, vcpu)
        return Resources({"mem": self.mem_bytes(region), "cpu": vcpu, "disk": disk_gib * _GIB, **features})


class Catalog(Mapping[str, InstanceType]):
    """Types by name."""

    def __init__(self, types: Iterable[InstanceType]) -> None:
        self._types = {each.name: each for each in types}

    def __getitem__(self, name: str) -> InstanceType:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def price(self, name: str, region: str) -> float | None:
        """USD per hour on demand; None for an unknown type or one that is not sold in the region."""
        known = self._types.get(name)
        return None if known is None else known.price_usd_per_hour.get(region)

    def resources(self, name: str, region: str, disk_gib: float) -> Resources:
        """What a machine of a type gives; nothing when the type is unknown."""
        known = self._types.get(name)
        return NO_RESOURCES if known is None else known.resources(region, disk_gib)


def read_catalog(lines: Iterable[str]) -> Catalog:
    """Read a table of types. Raises ValueError or KeyError for lines that are none."""
    return Catalog([_read_type(json.loads(line)) for line in lines if line.strip()])


def _read_type(row: Mapping[str, Any]) -> InstanceType:
    return InstanceType(
        name=row["type"],
        vcpu=row["vcpu"],
        mem_gib=row["mem_gib"],
        cpu_features=tuple(row.get("cpu_features") or ()),
        seen_mem_bytes={
            region: float(seen["expected_mem_bytes"]) for region, seen in (row.get("verified") or {}).items()
        },
        price_usd_per_hour=row.get("price") or {},
    )
