"""Walks of the alloc scheduler's machine through any events that can happen, in any order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.resources import Requirements, Resources
from reflow.sched.allocs import Phase
from reflow.sched.amounts import fits
from reflow.sched.event import (
    Allocate,
    AllocFailed,
    AllocLost,
    AllocReady,
    Cancel,
    Cancelled,
    Closed,
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
from tests.unit.sched.world import GIB, NET, UNAVAILABLE, a_task

POLICY = Policy()
NEEDS = st.builds(
    lambda cpu, mem, disk, avx: Resources(
        {"cpu": cpu, "mem": mem * GIB, "disk": disk * GIB, **({"intel_avx": 1.0} if avx else {})}
    ),
    st.sampled_from([0.0, 0.1, 1.0, 2.5, 8.0]),
    st.sampled_from([0.0, 0.5, 1.0, 30.0]),
    st.sampled_from([0.0, 1.0, 100.0]),
    st.booleans(),
)


class MachineWalk(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(POLICY)
        self.now = 0.0
        self.count = 0
        self.is_closed = False
        self.wants: dict[Digest, Resources] = {}
        self.open: set[Digest] = set()
        self.asked: dict[int, Requirements] = {}
        self.living: set[int] = set()
        self.running: dict[Digest, tuple[int, int]] = {}
        self.ending: set[Digest] = set()

    def tell(self, event: Event) -> None:
        for command in self.machine.handle(event._replace(now=self.now)):
            self.obey(command)

    def obey(self, command: object) -> None:
        match command:
            case Allocate(alloc, requirements):
                assert requirements.minimum.fits(POLICY.min_alloc)
                self.asked[alloc] = requirements
            case Start(task, attempt, alloc):
                assert task in self.open
                assert task not in self.running, "runs twice at once"
                assert alloc in self.living
                self.running[task] = (alloc, attempt)
            case Cancel(task, attempt):
                assert self.running[task][1] == attempt
                assert task not in self.ending, "cancelled twice"
                self.ending.add(task)
            case Release(alloc):
                assert alloc not in [place for place, _ in self.running.values()]
                self.asked.pop(alloc, None)
                self.living.discard(alloc)
            case Report(task, _):
                assert task not in self.running
                self.open.remove(task)

    def pick(self, data: st.DataObject, options: object) -> object:
        return data.draw(st.sampled_from(sorted(options)))  # type: ignore[call-overload]

    @rule(needs=st.lists(st.tuples(NEEDS, st.integers(-1, 1)), min_size=1, max_size=6))
    def submit(self, needs: list[tuple[Resources, int]]) -> None:
        requests = []
        for resources, priority in needs:
            task = a_task(self.count)
            self.count += 1
            self.wants[task] = resources
            self.open.add(task)
            requests.append(Request(task, resources, priority))
        self.tell(Submitted(requests, 0.0))

    @rule(seconds=st.sampled_from([0.0, 0.04, 0.06, 1.0, 9.0, 61.0, 130.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Tick(0.0))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), factor=st.sampled_from([0.5, 1.0, 1.0, 4.0]))
    def alloc_comes(self, data: st.DataObject, factor: float) -> None:
        alloc = self.pick(data, self.asked)
        assert isinstance(alloc, int)
        resources = self.asked.pop(alloc).minimum.scaled(factor)
        self.living.add(alloc)
        self.tell(AllocReady(alloc, resources, 0.0))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), is_final=st.sampled_from([False, False, True]))
    def alloc_fails(self, data: st.DataObject, is_final: bool) -> None:
        alloc = self.pick(data, self.asked)
        assert isinstance(alloc, int)
        del self.asked[alloc]
        self.tell(AllocFailed(alloc, UNAVAILABLE, is_final, 0.0))

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def alloc_dies(self, data: st.DataObject) -> None:
        alloc = self.pick(data, self.living)
        assert isinstance(alloc, int)
        self.tell(AllocLost(alloc, NET, 0.0))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def staged(self, data: st.DataObject) -> None:
        task = Digest(self.pick(data, self.running))  # type: ignore[arg-type]
        self.tell(Staged(task, self.running[task][1], 0.0))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), ending=st.sampled_from(Ending), usable=st.sampled_from([True, True, False]))
    def exits(self, data: st.DataObject, ending: Ending, usable: bool) -> None:
        task = Digest(self.pick(data, self.running))  # type: ignore[arg-type]
        _, attempt = self.running.pop(task)
        self.ending.discard(task)
        error: ReflowError | None = None if ending is Ending.DONE else UNAVAILABLE
        self.tell(Exited(task, attempt, ending, error, usable, 0.0))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.tell(Cancelled(Digest(self.pick(data, self.open)), 0.0))  # type: ignore[arg-type]

    @precondition(lambda self: self.count > 5 and not self.is_closed)
    @rule(chance=st.integers(0, 9))
    def close(self, chance: int) -> None:
        if chance == 0:
            self.is_closed = True
            self.tell(Closed(0.0))

    @invariant()
    def holds(self) -> None:
        self.machine.check_invariants()
        counts = self.machine.counts()
        assert counts.waiting + len(self.running) == len(self.open)
        assert counts.allocs[Phase.PENDING] == len(self.asked)

    @invariant()
    def none_waits_that_has_room(self) -> None:
        """What was remembered of earlier turns hides no room: after another one nobody is left who fits."""
        if self.is_closed:
            return
        self.tell(Tick(0.0))
        self.tell(Tick(0.0))
        free = [alloc.slot for alloc in self.machine._allocs.of(Phase.LIVE) if alloc.slot.kept_for is None]
        for bucket in self.machine._queue.buckets():
            if bucket.first.since + POLICY.pass_s <= self.now:
                assert not any(fits(slot.free, bucket.shape) for slot in free)

    def teardown(self) -> None:
        """From anywhere it comes to an end, when nothing fails any more."""
        for _ in range(2000):
            if not self.open:
                break
            self.step_towards_end()
        assert not self.open, self.machine.counts()

    def step_towards_end(self) -> None:
        self.now += 0.1
        if self.running:
            task, (_, attempt) = self.running.popitem()
            ending = Ending.LOST if task in self.ending else Ending.DONE
            self.ending.discard(task)
            self.tell(Exited(task, attempt, ending, None, True, 0.0))
        elif self.asked:
            alloc, requirements = self.asked.popitem()
            self.living.add(alloc)
            self.tell(AllocReady(alloc, requirements.minimum, 0.0))
        else:
            wake = self.machine.next_wake()
            assert wake is not None, "nothing is going to happen"
            self.now = max(self.now, wake)
            self.tell(Tick(0.0))


TestMachineWalk = MachineWalk.TestCase
TestMachineWalk.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
