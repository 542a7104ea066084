"""The order in which tasks are shown."""

from __future__ import annotations

from datetime import UTC, datetime

from reflow.core.digest import Digest
from reflow.taskdb import Task, in_order

RUN = Digest.of_text("run")
SECOND = datetime(2026, 1, 1, tzinfo=UTC)


def a_task(id: Digest, start: datetime = SECOND) -> Task:
    return Task(id=id, run_id=RUN, flow_id=RUN, start=start)


def test_tasks_that_began_in_the_same_second_are_in_the_order_in_which_they_were_made() -> None:
    made = [Digest.next() for _ in range(300)]
    assert len({id.short for id in made}) == len(set(made)) == 300
    tasks = [a_task(id) for id in sorted(made)]
    assert [task.id for task in sorted(tasks, key=in_order)] == made


def test_time_comes_first() -> None:
    first, second = Digest.next(), Digest.next()
    late, early = a_task(first, SECOND.replace(second=1)), a_task(second)
    assert sorted([late, early], key=in_order) == [early, late]
