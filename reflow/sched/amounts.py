"""Resources in whole units, so that sums are exact: bytes, and millionths of anything else.

A `Shape` is what a task wants, hashable: tasks of one shape are alike to the scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from reflow.core.resources import Resources

Shape = tuple[tuple[str, int], ...]
"""(name, amount) sorted by name, without what is zero."""

_BYTES = ("mem", "disk")
_UNITS = 1_000_000
_SIZE_MEM_BYTES = 8 * 2**30


def shape_of(wanted: Mapping[str, float]) -> Shape:
    """What a task wants; parts of bytes count whole."""
    return tuple(
        [(name, _units(name, wanted[name], math.ceil)) for name in sorted(wanted) if wanted[name] > 0]
    )


def capacity_of(offered: Mapping[str, float]) -> dict[str, int]:
    """What an alloc has; parts of bytes do not count."""
    return {name: _units(name, amount, math.floor) for name, amount in offered.items()}


def _units(name: str, amount: float, whole: Callable[[float], int]) -> int:
    return whole(amount) if name in _BYTES else round(amount * _UNITS)


def resources_of(amounts: Iterable[tuple[str, int]]) -> Resources:
    """The same amounts in bytes and cores."""
    return Resources({name: float(units) if name in _BYTES else units / _UNITS for name, units in amounts})


def size_of(amounts: Mapping[str, int]) -> float:
    """The measure that tasks and allocs are ordered by: memory in 8 GiB, and cores; disk does not count."""
    return amounts.get("mem", 0) / _SIZE_MEM_BYTES + amounts.get("cpu", 0) / _UNITS


def fits(free: Mapping[str, int], shape: Shape) -> bool:
    """Tell whether there is enough of everything."""
    for name, amount in shape:  # noqa: SIM110  (the loop is twice as fast)
        if free.get(name, 0) < amount:
            return False
    return True
