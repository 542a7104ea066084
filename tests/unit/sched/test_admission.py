"""Who may start now: the pure part of the local scheduler."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reflow.core.resources import Resources
from reflow.sched.admission import Admission, Waiting, amounts_of

GIB = 1 << 30
TOTAL = Resources(mem=8.0 * GIB, cpu=4.0)


def ask(admission: Admission, cpu: float, now: float = 0.0, priority: int = 0, mem: float = 0.0) -> Waiting:
    return admission.ask(Resources(mem=mem * GIB, cpu=cpu, disk=0.0), priority, now)


def test_all_that_fits_starts_in_order_of_arrival() -> None:
    admission = Admission(TOTAL)
    first, second, third = ask(admission, 2), ask(admission, 2), ask(admission, 1)
    assert admission.admit(0) == [first, second]
    admission.release(first)
    assert admission.admit(0) == [third]


def test_one_core_and_then_two_do_not_carve_the_machine_up() -> None:
    admission = Admission(Resources(mem=8.0 * GIB, cpu=2.0))
    one, two = ask(admission, 1), ask(admission, 2)
    assert admission.admit(0) == [one]
    admission.release(one)
    assert admission.admit(0) == [two]


def test_what_fits_passes_what_does_not() -> None:
    admission = Admission(TOTAL)
    running, big, small = ask(admission, 3), ask(admission, 4), ask(admission, 1)
    assert admission.admit(0) == [running, small]
    admission.release(running)
    assert admission.admit(1) == []
    admission.release(small)
    assert admission.admit(2) == [big]


def test_a_big_task_that_has_waited_is_passed_no_more() -> None:
    admission = Admission(TOTAL, patience_s=60)
    running = ask(admission, 1)
    assert admission.admit(0) == [running]
    big = ask(admission, 4, now=0)
    small = [ask(admission, 1, now=0) for _ in range(3)]
    assert admission.admit(59) == small
    more = ask(admission, 1, now=60)
    admission.release(small[0])
    assert admission.admit(60) == []
    for each in (*small[1:], running):
        admission.release(each)
    assert admission.admit(61) == [big]
    admission.release(big)
    assert admission.admit(62) == [more]


def test_what_wants_nothing_never_waits() -> None:
    admission = Admission(TOTAL, patience_s=0)
    running, big = ask(admission, 1), ask(admission, 4)
    intern = admission.ask({}, 0, 0.0)
    assert admission.admit(100) == [running, intern]
    assert big not in admission.admit(100)


def test_a_lower_priority_number_goes_first() -> None:
    admission = Admission(TOTAL)
    late, early = ask(admission, 4, priority=1), ask(admission, 4, priority=0)
    assert admission.admit(0) == [early]
    admission.release(early)
    assert admission.admit(0) == [late]


def test_memory_counts_as_cores_do() -> None:
    admission = Admission(TOTAL)
    first, second = ask(admission, 1, mem=5), ask(admission, 1, mem=5)
    third = ask(admission, 1, mem=3)
    assert admission.admit(0) == [first, third]
    admission.release(third)
    assert admission.admit(0) == []
    admission.release(first)
    assert admission.admit(0) == [second]


def test_one_that_withdraws_is_forgotten() -> None:
    admission = Admission(TOTAL)
    first, second = ask(admission, 4), ask(admission, 4)
    admission.withdraw(first)
    assert admission.admit(0) == [second]


@pytest.mark.parametrize(
    ("resources", "amounts"),
    [
        (Resources(mem=1.5, cpu=0.1, disk=0.0), (("cpu", 100), ("mem", 2))),
        (Resources(intel_avx=2.0), (("intel_avx", 2000),)),
        (Resources(), ()),
    ],
)
def test_amounts_are_whole(resources: Resources, amounts: tuple[tuple[str, int], ...]) -> None:
    assert amounts_of(resources) == amounts


def test_tenths_of_a_core_fill_a_core_exactly() -> None:
    admission = Admission(Resources(cpu=1.0))
    tasks = [admission.ask(Resources(cpu=0.1), 0, 0.0) for _ in range(11)]
    assert admission.admit(0) == tasks[:10]
    for each in tasks[:10]:
        admission.release(each)
    assert admission.free == {"cpu": 1000}


class AdmissionWalk(RuleBasedStateMachine):
    """Tasks come, start, end and withdraw: the machine is never over-committed, and nobody waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(TOTAL, patience_s=5)
        self.now = 0.0
        self.waiting: list[Waiting] = []
        self.running: list[Waiting] = []

    @initialize()
    def start(self) -> None:
        self.admit()

    @rule(cpu=st.integers(0, 4), mem=st.integers(0, 8), priority=st.integers(0, 1))
    def arrive(self, cpu: int, mem: int, priority: int) -> None:
        self.waiting.append(ask(self.admission, cpu, self.now, priority, mem))
        self.admit()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        done = data.draw(st.sampled_from(self.running))
        self.running.remove(done)
        self.admission.release(done)
        self.admit()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(gone)
        self.admission.withdraw(gone)
        self.admit()

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.admit()

    def admit(self) -> None:
        impatient = [each for each in self.waiting if self.now - each.since >= 5 and each.amounts]
        for each in self.admission.admit(self.now):
            # Nobody that wants anything goes before one that has waited too long and still waits.
            self.waiting.remove(each)
            self.running.append(each)
            blocked = [old for old in impatient if old in self.waiting and old.order < each.order]
            assert not blocked or not each.amounts

    @invariant()
    def is_never_over_committed(self) -> None:
        used = {"mem": 0, "cpu": 0}
        for each in self.running:
            for name, amount in each.amounts:
                used[name] += amount
        total = {"mem": 8 * GIB, "cpu": 4000}
        assert all(used[name] <= total[name] for name in used)
        assert self.admission.free == {name: total[name] - used[name] for name in total}

    @invariant()
    def an_idle_machine_has_nobody_waiting(self) -> None:
        assert self.running or not self.waiting


TestAdmissionWalk = AdmissionWalk.TestCase
TestAdmissionWalk.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
