"""The alloc scheduler's decisions for many tasks, on machines with faults."""

from __future__ import annotations

import random
import time

import pytest

from tests.unit.sched.world import Faults, World, a_task, ask


def submit_waves(world: World, count: int, seed: int) -> None:
    """Submissions like those of a large graph: waves of very different sizes and needs."""
    chance = random.Random(seed)
    shapes = [(1, 1), (1, 2), (2, 4), (4, 16), (8, 8), (16, 120), (1, 30)]
    submitted, when = 0, 0.0
    while submitted < count:
        size = min(count - submitted, chance.randrange(1, 400))
        wave = []
        for number in range(submitted, submitted + size):
            (cpu, _), (_, mem) = chance.choice(shapes), chance.choice(shapes)
            wave.append(ask(number, cpu=cpu, mem=mem, priority=chance.choice([0, 0, 0, 1])))
        world.submit(when, *wave)
        submitted += size
        when += chance.uniform(0, 60)


def test_ten_thousand_tasks_over_a_hundred_allocs_with_faults() -> None:
    """Nothing is lost, nothing runs twice at once, nothing is over-committed, and it comes to an end."""
    began = time.process_time()
    world = World(2, 100, Faults(alloc_fails=0.05, alloc_dies=0.1, attempt_is_lost=0.03, alloc_breaks=0.3))
    world.check_every = 100
    submit_waves(world, 10_000, 1)
    world.run(200_000)
    assert len(world.ended) == 10_000
    assert all(len(reports) == 1 for reports in world.ended.values())
    assert len(world.done) == sum(reports == [None] for reports in world.ended.values())
    assert len(world.done) > 9_990
    assert world.largest_fleet >= 90
    assert world.seen["AllocLost"] > 5
    assert world.seen["Exited"] > 10_200
    assert world.allocs == {}
    assert world.machine.next_wake() is None
    assert time.process_time() - began < 60


@pytest.mark.parametrize("seed", range(12))
def test_small_worlds_with_many_faults_come_to_an_end(seed: int) -> None:
    faults = Faults(alloc_fails=0.3, alloc_dies=0.5, attempt_is_lost=0.2, alloc_breaks=0.5)
    world = World(seed, 4, faults)
    submit_waves(world, 120, seed)
    world.run(50_000)
    assert set(world.ended) == set(world.requests)
    assert all(len(reports) == 1 for reports in world.ended.values())
    assert world.allocs == {}


def test_a_huge_task_does_not_starve_beside_an_endless_stream_of_small_ones() -> None:
    world = World(3, 2, Faults())
    world.check_every = 50
    world.submit(0.0, *[ask(("first", number), cpu=2, mem=2) for number in range(20)])
    world.submit(100.0, ask("huge", cpu=16, mem=16))
    for second in range(3000):
        world.submit(float(second), ask(second, cpu=1, mem=1))
    world.run(100_000)
    assert world.ended[a_task("huge")] == [None]
    assert world.finished[a_task("huge")] < 2500
