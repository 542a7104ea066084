"""What to ask of a cluster for tasks that found no room."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from reflow.core.resources import Requirements, Resources
from reflow.sched.amounts import Shape, fits, resources_of, size_of

MANY = 1000
"""Up to so many tasks are packed one by one; beyond, bins that are filled alike are counted at once."""

Runs = Sequence[tuple[Shape, int]]
"""Shapes, and how many tasks of each."""


def requirements(runs: Runs) -> Requirements:
    """The resources that the largest task needs, and how many more bins of that size all would fill.

    Bins are filled from the largest task down. The next task that fits is searched by halving, although what
    fits is not always sorted that way: the width is a part of the vectors of conformance.
    Source: sched/scheduler.go, requirements.
    """
    packing = _Packing(runs)
    packing.run()
    return Requirements(resources_of(packing.minimum.items()), packing.width)


class _Packing:
    def __init__(self, runs: Runs) -> None:
        merged: Counter[Shape] = Counter()
        for shape, count in runs:
            merged[shape] += count
        ordered = sorted(merged.items(), key=lambda run: -size_of(dict(run[0])))
        self._shapes = [shape for shape, _ in ordered]
        self._counts = [count for _, count in ordered]
        self._left = sum(self._counts)
        self._have: dict[str, int] = {}
        self._bin: dict[int, int] = {}
        self._is_bin_typical = False
        self.minimum: dict[str, int] = {}
        self.width = 0

    def run(self) -> None:
        while self._left:
            index = self._find()
            if index is None:
                self._repeat_bin()
                if not self._left:
                    return
                index = self._open_bin()
            self._take(index, 1)
            self._bin[index] = self._bin.get(index, 0) + 1
            for name, amount in self._shapes[index]:
                self._have[name] = self._have.get(name, 0) - amount

    def _find(self) -> int | None:
        """The run of the task that the search ends at, if any fits."""
        ends = list(accumulate(self._counts))
        low, high = 0, self._left
        while low < high:
            middle = (low + high) // 2
            if fits(self._have, self._shapes[bisect_right(ends, middle)]):
                high = middle
            else:
                low = middle + 1
        return bisect_right(ends, low) if low < self._left else None

    def _open_bin(self) -> int:
        """Begin a bin with the largest task; the run it is of."""
        index = next(number for number, count in enumerate(self._counts) if count)
        self.width += bool(self.minimum)
        wider = {name: max(self.minimum.get(name, 0), amount) for name, amount in self._shapes[index]}
        wider = {**self.minimum, **wider}
        self._is_bin_typical = wider == self.minimum
        self.minimum = wider
        self._have = dict(wider)
        self._bin = {}
        return index

    def _repeat_bin(self) -> None:
        """Count further bins like the one that is full, as far as there are tasks for them."""
        if self._left <= MANY or not self._bin or not self._is_bin_typical:
            return
        times = min(self._counts[index] // count for index, count in self._bin.items())
        for index, count in self._bin.items():
            self._take(index, count * times)
        self.width += times

    def _take(self, index: int, count: int) -> None:
        self._counts[index] -= count
        self._left -= count


def allocatable(runs: Runs, can_allocate: Callable[[Resources], bool], least: Resources) -> Runs:
    """Those runs that one alloc can serve together, from the largest task down.

    What one needs much memory for and another many cores may be too much for any machine.
    """
    most: Mapping[str, float] = least
    chosen = []
    for run in sorted(runs, key=lambda run: -size_of(dict(run[0]))):
        wider = Resources(most).at_least(resources_of(run[0]))
        if can_allocate(wider):
            most = wider
            chosen.append(run)
    return chosen
