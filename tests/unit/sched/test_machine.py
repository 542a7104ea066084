"""The alloc scheduler's decisions, event by event."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.core.resources import Resources
from reflow.sched.event import (
    Allocate,
    AllocFailed,
    AllocLost,
    AllocReady,
    Cancel,
    Cancelled,
    Closed,
    Command,
    Ending,
    Event,
    Exited,
    Release,
    Report,
    Request,
    Staged,
    Start,
    Submitted,
    Tick,
)
from reflow.sched.machine import Machine
from reflow.sched.policy import Policy
from tests.unit.sched.world import GIB, NET, UNAVAILABLE, a_task, ask

AT_ONCE = Policy(drain_s=0.0)


class Scene:
    """A machine that is checked after every event."""

    def __init__(self, policy: Policy = AT_ONCE) -> None:
        self.machine = Machine(policy)
        self.now = 0.0

    def tell(self, event: Event, *, after: float = 0.0) -> list[Command]:
        self.now += after
        commands = self.machine.handle(event._replace(now=self.now))
        self.machine.check_invariants()
        return commands

    def submit(self, *requests: Request, after: float = 0.0) -> list[Command]:
        return self.tell(Submitted(requests, 0.0), after=after)

    def ready(
        self, alloc: int = 0, *, cpu: float = 1, mem: float = 1, after: float = 0.0, **more: float
    ) -> list[Command]:
        has = Resources(mem=mem * GIB, cpu=cpu, disk=GIB, **more)
        return self.tell(AllocReady(alloc, has, 0.0), after=after)

    def done(self, name: object, attempt: int = 0, *, after: float = 0.0) -> list[Command]:
        return self.tell(Exited(a_task(name), attempt, Ending.DONE, None, True, 0.0), after=after)

    def lost(
        self, name: object, attempt: int = 0, *, usable: bool = True, after: float = 0.0
    ) -> list[Command]:
        return self.tell(Exited(a_task(name), attempt, Ending.LOST, UNAVAILABLE, usable, 0.0), after=after)

    def tick(self, after: float) -> list[Command]:
        return self.tell(Tick(0.0), after=after)


def starts(commands: Iterable[Command]) -> list[Start]:
    return [command for command in commands if isinstance(command, Start)]


def the_error(commands: Iterable[Command], name: object) -> ReflowError:
    (error,) = [each.error for each in commands if isinstance(each, Report) and each.task == a_task(name)]
    assert error is not None
    return error


def allocations(commands: Iterable[Command]) -> list[Allocate]:
    return [command for command in commands if isinstance(command, Allocate)]


def test_a_task_goes_from_submission_to_report() -> None:
    scene = Scene()
    (asked,) = allocations(scene.submit(ask("a", cpu=2, mem=4)))
    assert asked.requirements.minimum == Resources(mem=4 * GIB, cpu=2, disk=GIB)
    assert scene.ready(asked.alloc, cpu=2, mem=4) == [Start(a_task("a"), 0, asked.alloc)]
    assert scene.tell(Staged(a_task("a"), 0, 0.0)) == []
    assert scene.machine.counts()[:3] == (0, 0, 1)
    assert scene.done("a") == [Report(a_task("a"), None)]


def test_submissions_are_collected_until_none_comes() -> None:
    scene = Scene(Policy())
    assert scene.submit(ask("a")) == []
    assert scene.submit(ask("b", cpu=4), after=0.04) == []
    assert scene.machine.next_wake() == pytest.approx(0.09)
    (asked,) = allocations(scene.tick(0.05))
    assert asked.requirements.minimum["cpu"] == 4


def test_submissions_that_never_stop_are_not_waited_for() -> None:
    scene = Scene(Policy())
    commands = [command for number in range(20) for command in scene.submit(ask(number), after=0.04)]
    assert allocations(commands)


def test_what_goes_on_meanwhile_does_not_wait_for_submissions() -> None:
    scene = Scene(Policy())
    scene.submit(ask("a"))
    scene.tick(0.05)
    scene.submit(ask("b"))
    assert starts(scene.ready()) == [Start(a_task("a"), 0, 0)]


def test_priority_goes_before_size() -> None:
    scene = Scene()
    scene.submit(ask("small", mem=1, priority=1), ask("large", mem=2), ask("middle", mem=1.5))
    order = [start.task for start in starts(scene.ready(cpu=3, mem=8))]
    assert order == [a_task("middle"), a_task("large"), a_task("small")]


def test_the_smallest_alloc_that_fits_is_taken() -> None:
    scene = Scene()
    scene.submit(ask("one", cpu=8, mem=8))
    scene.ready(0, cpu=8, mem=8)
    scene.submit(ask("two", cpu=2, mem=2))
    scene.ready(1, cpu=2, mem=2)
    scene.done("one")
    scene.done("two")
    assert starts(scene.submit(ask("three", cpu=1, mem=1))) == [Start(a_task("three"), 0, 1)]


def test_an_alloc_is_asked_for_when_those_on_their_way_will_not_do() -> None:
    scene = Scene()
    assert allocations(scene.submit(ask("a", cpu=2)))
    assert not allocations(scene.submit(Request(a_task("nothing"), Resources())))
    assert allocations(scene.submit(ask("b", cpu=1), ask("c", cpu=2)))


def test_only_so_many_allocs_are_asked_for_at_a_time() -> None:
    scene = Scene()
    asked = [len(allocations(scene.submit(ask(number)))) for number in range(8)]
    assert sum(asked) == 5


def test_what_no_alloc_can_have_together_is_asked_for_apart() -> None:
    def can_allocate(resources: Resources) -> bool:
        return resources.amount("cpu") <= 4 or resources.amount("mem") <= 8 * GIB

    machine = Machine(AT_ONCE, can_allocate)
    commands = machine.handle(Submitted([ask("wide", cpu=32, mem=1), ask("deep", cpu=1, mem=200)], 0.0))
    commands += machine.handle(Tick(200.0))
    asked = [each.requirements.minimum for each in allocations(commands)]
    assert asked == [
        Resources(cpu=32, mem=GIB, disk=GIB),
        Resources(cpu=1, mem=200 * GIB, disk=GIB),
    ] or asked == [
        Resources(cpu=1, mem=200 * GIB, disk=GIB),
        Resources(cpu=32, mem=GIB, disk=GIB),
    ]


def test_a_task_that_fits_nowhere_holds_up_others_for_a_moment_only() -> None:
    scene = Scene()
    scene.submit(ask("first", cpu=8, mem=8))
    scene.ready(cpu=8, mem=8)
    scene.done("first")
    assert not starts(scene.submit(ask("vector", intel_avx=1), ask("plain", cpu=2, mem=2)))
    assert scene.machine.next_wake() == pytest.approx(scene.now + 1.0)
    assert starts(scene.tick(1.0)) == [Start(a_task("plain"), 0, 0)]


def huge_beside_small() -> Scene:
    """Two small tasks run on an alloc that a huge one would need for itself."""
    scene = Scene()
    scene.submit(ask("s0", cpu=4), ask("s1", cpu=4))
    scene.ready(cpu=8, mem=8)
    scene.submit(ask("huge", cpu=8))
    return scene


def test_small_tasks_pass_a_huge_one_while_it_has_not_waited_long() -> None:
    scene = huge_beside_small()
    scene.submit(ask("s2", cpu=4))
    assert starts(scene.done("s0", after=30.0)) == [Start(a_task("s2"), 0, 0)]


def test_an_alloc_is_kept_for_a_huge_task_that_has_waited() -> None:
    scene = huge_beside_small()
    scene.submit(ask("s2", cpu=4), after=1.0)
    scene.tick(60.0)
    assert not starts(scene.done("s0"))
    assert starts(scene.done("s1", after=1.0)) == [Start(a_task("huge"), 0, 0)]
    assert starts(scene.done("huge", after=1.0)) == [Start(a_task("s2"), 0, 0)]


def test_a_kept_alloc_is_given_free_when_the_task_is_cancelled() -> None:
    scene = huge_beside_small()
    scene.submit(ask("s2", cpu=4), after=1.0)
    scene.tick(60.0)
    scene.done("s0")
    assert starts(scene.tell(Cancelled(a_task("huge"), 0.0))) == [Start(a_task("s2"), 0, 0)]


def test_a_request_for_a_huge_alloc_that_is_not_answered_is_no_hope_for_others() -> None:
    scene = Scene()
    asked = allocations(scene.submit(ask("huge", cpu=64), ask("small")))
    assert [each.requirements.minimum["cpu"] for each in asked] == [64]
    (more,) = allocations(scene.tick(120.0))
    assert more.requirements.minimum["cpu"] == 1
    assert starts(scene.ready(more.alloc)) == [Start(a_task("small"), 0, more.alloc)]


def test_idle_allocs_are_released() -> None:
    scene = Scene()
    scene.submit(ask("a"))
    scene.ready()
    scene.done("a", after=10.0)
    assert scene.machine.next_wake() == 310.0
    assert scene.tick(299.0) == []
    assert scene.tick(1.0) == [Release(0)]
    assert scene.machine.next_wake() is None


def test_an_idle_alloc_that_is_too_small_makes_room() -> None:
    scene = Scene()
    scene.submit(ask("small"))
    scene.ready()
    scene.done("small")
    assert allocations(scene.submit(ask("large", cpu=2)))
    assert Release(0) in scene.tick(10.0)


def test_allocs_are_given_up_for_a_task_that_starves() -> None:
    scene = Scene()
    scene.submit(ask("s0"), ask("s1"))
    scene.ready(cpu=2, mem=2)
    scene.submit(ask("huge", cpu=4))
    scene.tick(600.0)
    assert not starts(scene.submit(ask("s2"))), "the alloc takes no more"
    scene.done("s0")
    assert Release(0) in scene.done("s1")


def test_a_lost_alloc_requeues_its_tasks_first() -> None:
    scene = Scene()
    scene.submit(ask("a", cpu=2))
    scene.ready(cpu=2)
    scene.submit(ask("b", cpu=2))
    assert scene.tell(AllocLost(0, NET, 0.0)) == [Cancel(a_task("a"), 0)]
    assert scene.lost("a")[0] == Release(0)
    assert starts(scene.ready(1, cpu=2)) == [Start(a_task("a"), 1, 1)]


def test_a_task_of_a_lost_alloc_waits_for_its_attempt_to_end() -> None:
    scene = Scene()
    scene.submit(ask("a"))
    scene.ready()
    scene.submit(ask("other", cpu=4))
    scene.ready(1, cpu=4)
    scene.done("other")
    assert not starts(scene.tell(AllocLost(0, NET, 0.0)))
    assert starts(scene.lost("a")) == [Start(a_task("a"), 1, 1)]


def test_an_alloc_that_was_lost_may_have_done_its_task() -> None:
    scene = Scene()
    scene.submit(ask("a"))
    scene.ready()
    scene.tell(AllocLost(0, NET, 0.0))
    assert scene.done("a") == [Report(a_task("a"), None), Release(0)]


def test_lost_tasks_are_tried_again_later_and_later() -> None:
    scene = Scene(Policy(drain_s=0.0, max_strikes=100))
    scene.submit(ask("a"))
    scene.ready()
    waits = []
    for attempt in range(6):
        assert not starts(scene.lost("a", attempt))
        wake = scene.machine.next_wake()
        assert wake is not None
        waits.append(wake - scene.now)
        assert starts(scene.tick(wake - scene.now)) == [Start(a_task("a"), attempt + 1, 0)]
    assert waits == [1, 2, 4, 8, 16, 32]


def test_a_task_is_not_lost_for_ever() -> None:
    scene = Scene(Policy(drain_s=0.0, max_strikes=100))
    scene.submit(ask("a"))
    scene.ready()
    for attempt in range(8):
        scene.lost("a", attempt)
        scene.tick(61.0)
    commands = scene.lost("a", 8)
    error = the_error(commands, "a")
    assert error.kind is Kind.TOO_MANY_TRIES
    assert error.cause is UNAVAILABLE


def test_an_alloc_that_loses_every_task_is_given_up() -> None:
    scene = Scene()
    scene.submit(ask("a"))
    scene.ready()
    for attempt in range(2):
        assert Release(0) not in scene.lost("a", attempt)
        scene.tick(61.0)
    assert Release(0) in scene.lost("a", 2)


def test_an_alloc_that_does_not_answer_gets_no_more_tasks_and_is_released() -> None:
    scene = Scene()
    scene.submit(ask("a"), ask("b"))
    scene.ready(cpu=2, mem=2)
    assert not [each for each in scene.lost("a", usable=False) if isinstance(each, Start)]
    assert Release(0) in scene.done("b")


def test_cancelling_a_waiting_task() -> None:
    scene = Scene()
    scene.submit(ask("a"))
    (report,) = scene.tell(Cancelled(a_task("a"), 0.0))
    assert the_error([report], "a").kind is Kind.CANCELED
    assert not starts(scene.ready())


def test_cancelling_a_task_that_has_just_come() -> None:
    scene = Scene(Policy())
    scene.submit(ask("a"))
    assert the_error(scene.tell(Cancelled(a_task("a"), 0.0)), "a").kind is Kind.CANCELED
    assert scene.tick(1.0) == []


def test_cancelling_a_task_between_two_tries() -> None:
    scene = Scene()
    scene.submit(ask("a"))
    scene.ready()
    scene.lost("a")
    assert the_error(scene.tell(Cancelled(a_task("a"), 0.0)), "a").kind is Kind.CANCELED
    assert scene.tick(5.0) == []


def test_cancelling_a_running_task() -> None:
    scene = Scene()
    scene.submit(ask("a"))
    scene.ready()
    assert scene.tell(Cancelled(a_task("a"), 0.0)) == [Cancel(a_task("a"), 0)]
    assert scene.tell(Cancelled(a_task("a"), 0.0)) == []
    assert the_error(scene.lost("a"), "a").kind is Kind.CANCELED
    assert scene.tell(Cancelled(a_task("a"), 0.0)) == []


def test_requests_that_fail_are_made_again_later_and_later() -> None:
    scene = Scene()
    (asked,) = allocations(scene.submit(ask("a")))
    for wait in (1, 2, 4, 8):
        assert scene.tell(AllocFailed(asked.alloc, UNAVAILABLE, False, 0.0)) == []
        assert scene.machine.next_wake() == scene.now + wait
        (asked,) = allocations(scene.tick(wait))


def test_tasks_fail_when_there_is_no_hope_for_an_alloc() -> None:
    scene = Scene()
    (asked,) = allocations(scene.submit(ask("a"), ask("b")))
    for _ in range(10):
        scene.tell(AllocFailed(asked.alloc, UNAVAILABLE, False, 0.0))
        (asked,) = allocations(scene.tick(61.0))
    commands = scene.tell(AllocFailed(asked.alloc, UNAVAILABLE, False, 0.0))
    assert the_error(commands, "a").kind is Kind.UNAVAILABLE
    assert the_error(commands, "b").kind is Kind.UNAVAILABLE


def test_a_final_failure_spares_tasks_that_an_alloc_will_take() -> None:
    scene = Scene()
    scene.submit(ask("a", cpu=2))
    scene.ready(cpu=2)
    (asked,) = allocations(scene.submit(ask("b", cpu=2), ask("c", cpu=4)))
    refused = ReflowError(Kind.NOT_ALLOWED, "ec2")
    commands = scene.tell(AllocFailed(asked.alloc, refused, True, 0.0))
    assert the_error(commands, "c").kind is Kind.NOT_ALLOWED
    assert starts(scene.done("a")) == [Start(a_task("b"), 0, 0)]


def test_an_alloc_with_less_than_was_asked_for_is_sent_back() -> None:
    scene = Scene()
    scene.submit(ask("a", cpu=4))
    assert scene.ready(cpu=2) == [Release(0)]
    assert allocations(scene.tick(1.0))


def test_closing_ends_everything() -> None:
    scene = Scene()
    scene.submit(ask("a"))
    scene.ready()
    (asked,) = allocations(scene.submit(ask("b", cpu=2)))
    commands = scene.tell(Closed(0.0))
    assert set(commands) - {Cancel(a_task("a"), 0), Release(asked.alloc)} == {
        Report(a_task("b"), the_error(commands, "b"))
    }
    commands = scene.lost("a")
    assert the_error(commands, "a").kind is Kind.CANCELED
    assert Release(0) in commands
    assert the_error(scene.submit(ask("c")), "c").kind is Kind.CANCELED


def test_an_alloc_that_comes_after_the_end_is_sent_back() -> None:
    scene = Scene()
    (asked,) = allocations(scene.submit(ask("a")))
    scene.tell(Closed(0.0))
    assert scene.ready(asked.alloc) == [Release(asked.alloc)]
    assert scene.tell(AllocLost(asked.alloc, NET, 0.0)) == []
    assert scene.tell(AllocFailed(asked.alloc, NET, False, 0.0)) == []


def test_a_task_submitted_twice_is_a_mistake_of_ours() -> None:
    scene = Scene()
    scene.submit(ask("a"))
    with pytest.raises(AssertionError):
        scene.submit(ask("a"))
