"""What is asked of a cluster for tasks without room."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from reflow.core.resources import Resources
from reflow.sched.amounts import Shape, capacity_of, fits, resources_of, shape_of, size_of
from reflow.sched.requirements import MANY, allocatable, requirements

GIB = float(1 << 30)
SHAPES = st.builds(
    lambda cpu, mem: shape_of({"cpu": cpu, "mem": mem * GIB}),
    st.sampled_from([0.5, 1, 2, 8]),
    st.sampled_from([1, 2, 7, 60]),
)


def shape(cpu: float, mem: float = 0, **more: float) -> Shape:
    return shape_of({"cpu": cpu, "mem": mem * GIB, **more})


def test_nothing_is_needed_for_nothing() -> None:
    assert str(requirements([])) == "{}"


def test_the_largest_task_decides_the_minimum() -> None:
    wanted = requirements([(shape(1, 8), 1), (shape(4, 2), 1)])
    assert wanted.minimum == Resources(cpu=4.0, mem=8 * GIB)
    assert wanted.width == 1


def test_small_tasks_fill_the_bins_of_large_ones() -> None:
    assert requirements([(shape(4), 2), (shape(1), 4)]).width == 2
    assert requirements([(shape(8), 1), (shape(1), 8)]).width == 1


@given(runs=st.lists(st.tuples(SHAPES, st.integers(1, 6)), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_every_task_fits_the_minimum_and_all_fit_the_maximum(runs: list[tuple[Shape, int]]) -> None:
    wanted = requirements(runs)
    minimum = capacity_of(wanted.minimum)
    assert all(fits(minimum, each) for each, _ in runs)
    needed = Resources()
    for each, count in runs:
        needed = needed + resources_of(each).scaled(count)
    assert wanted.maximum().fits(needed)
    assert wanted.width < sum(count for _, count in runs)


def test_bins_that_are_filled_alike_are_counted_at_once() -> None:
    runs = [(shape(4), MANY * 2), (shape(3), MANY * 2), (shape(1), MANY * 2)]
    assert requirements(runs).width == MANY * 4 - 1


def test_the_width_is_the_same_however_the_runs_are_told() -> None:
    runs = [(shape(4), 3), (shape(2), 5), (shape(1), 2)]
    widths = {requirements(order).width for order in itertools.permutations(runs)}
    split = [(each, 1) for each, count in runs for _ in range(count)]
    assert widths == {requirements(split).width}


def test_what_no_machine_has_together_is_left_for_another_request() -> None:
    runs = [(shape(64, 1), 1), (shape(1, 600), 1), (shape(1, 1), 5)]

    def can_allocate(resources: Resources) -> bool:
        return resources.amount("cpu") <= 8 or resources.amount("mem") <= 64 * GIB

    chosen = [each for each, _ in allocatable(runs, can_allocate, Resources(cpu=1.0))]
    assert chosen == [shape(1, 600), shape(1, 1)]


def test_amounts_are_exact() -> None:
    free = capacity_of({"cpu": 1.0, "mem": 10.5})
    assert free == {"cpu": 1_000_000, "mem": 10}
    assert shape_of({"cpu": 0.1, "mem": 0.2, "disk": 0.0}) == (("cpu", 100_000), ("mem", 1))
    assert resources_of(free.items()) == Resources(cpu=1.0, mem=10.0)
    assert size_of({"mem": 8 << 30, "cpu": 2_000_000, "disk": 10}) == 3.0
