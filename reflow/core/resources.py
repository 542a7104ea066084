"""Amounts of memory, CPU, disk and CPU features that work asks for and machines offer.

Keys: ``mem`` (bytes), ``cpu`` (cores), ``disk`` (bytes), and CPU features such as ``intel_avx``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reflow.core.units import format_general, format_size

_MEM_UNIT_BYTES = 8 * 2**30


class Resources(Mapping[str, float]):
    """An immutable mapping of resource name -> amount; absent means zero."""

    __slots__ = ("_amounts",)

    def __init__(self, amounts: Mapping[str, float] | None = None, **more: float) -> None:
        self._amounts: dict[str, float] = {**(amounts or {}), **more}

    def __getitem__(self, name: str) -> float:
        return self._amounts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._amounts)

    def __len__(self) -> int:
        return len(self._amounts)

    def amount(self, name: str) -> float:
        """The amount of one resource, 0 when it is not mentioned."""
        return self._amounts.get(name, 0.0)

    def fits(self, wanted: Mapping[str, float]) -> bool:
        """Tell whether ``wanted`` can be taken from these resources."""
        have = self._amounts
        return all(have.get(name, 0.0) >= amount for name, amount in wanted.items())

    def short_of(self, wanted: Mapping[str, float]) -> list[str]:
        """Names of what is ``wanted`` more than there is; the disk counts only where it is known."""
        have = self._amounts
        return [
            name
            for name, amount in wanted.items()
            if amount > have.get(name, 0.0) and (name != "disk" or name in have)
        ]

    def __add__(self, other: Mapping[str, float]) -> Resources:
        total = dict(self._amounts)
        for name, amount in other.items():
            total[name] = total.get(name, 0.0) + amount
        return Resources(total)

    def __sub__(self, other: Mapping[str, float]) -> Resources:
        total = dict(self._amounts)
        for name, amount in other.items():
            total[name] = total.get(name, 0.0) - amount
        return Resources(total)

    def at_least(self, other: Mapping[str, float]) -> Resources:
        """The larger amount of each resource."""
        total = dict(self._amounts)
        for name, amount in other.items():
            total[name] = max(total.get(name, 0.0), amount)
        return Resources(total)

    def scaled(self, factor: float) -> Resources:
        """Every amount multiplied."""
        return Resources({name: amount * factor for name, amount in self._amounts.items()})

    def scaled_distance(self, other: Mapping[str, float]) -> float:
        """Distance used to order work and machines: |memory|/8 GiB + |cpu|; disk does not count."""
        mem = abs(self.amount("mem") - other.get("mem", 0.0)) / _MEM_UNIT_BYTES
        return mem + abs(self.amount("cpu") - other.get("cpu", 0.0))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Resources):
            return NotImplemented
        names = self._amounts.keys() | other._amounts.keys()
        return all(self.amount(name) == other.amount(name) for name in names)

    def __hash__(self) -> int:
        return hash(frozenset((name, amount) for name, amount in self._amounts.items() if amount))

    def __str__(self) -> str:
        """``{mem:1.0GiB cpu:2 disk:0B intel_avx:2}``; ``{}`` when there is nothing."""
        mem, cpu, disk = (self.amount(name) for name in ("mem", "cpu", "disk"))
        words = [""]
        if mem or cpu or disk:
            words = [f"mem:{format_size(mem)} cpu:{format_general(cpu)} disk:{format_size(disk)}"]
        words += [
            f"{name}:{format_general(self._amounts[name])}"
            for name in sorted(self._amounts)
            if name not in ("mem", "cpu", "disk") and self._amounts[name]
        ]
        return "{" + " ".join(words) + "}"

    __repr__ = __str__


NO_RESOURCES = Resources()


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a piece of work needs: at least ``minimum``, usefully ``1 + width`` times as much."""

    minimum: Resources = field(default_factory=Resources)
    width: int = 0

    def maximum(self) -> Resources:
        """The amount beyond which more machine does not help."""
        return self.minimum.scaled(1 + self.width)

    def beside(self, minimum: Resources) -> Requirements:
        """Requirements of this and another piece of work that run at the same time."""
        width = self.width + 1 if len(self.minimum) else self.width
        return Requirements(self.minimum.at_least(minimum), width)

    def __str__(self) -> str:
        return f"{self.minimum}#{self.width}" if self.width > 1 else str(self.minimum)
