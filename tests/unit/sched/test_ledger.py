"""Several runs on one machine: what they tell each other, and that they never take the same twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from reflow.core.resources import Resources
from reflow.sched import ledger as ledger_module
from reflow.sched.admission import Admission, Waiting
from reflow.sched.ledger import Ledger
from reflow.sched.sharing import ALONE, Others, Units, Want, share_of

MACHINE = Resources(mem=8.0, cpu=2.0)


class Runs:
    """A directory, and runs that share it; ``surviving``: what dead runs' execs hold, by local directory."""

    def __init__(self, directory: Path, machine: Resources = MACHINE) -> None:
        self.directory = str(directory)
        self.machine = machine
        self.now = 0.0
        self.surviving: dict[str, Units] = {}

    def run(self, local_dir: str = "/local") -> One:
        return One(self, local_dir)


class One:
    """One run: what it admits, and what it tells others."""

    def __init__(self, runs: Runs, local_dir: str) -> None:
        self.runs = runs
        self.local_dir = local_dir
        self.admission = Admission(runs.machine)
        self.running: list[Waiting] = []
        self.waiting: list[Waiting] = []
        self.ledger = Ledger(runs.directory, local_dir, lambda where, pid: runs.surviving.get(where, {}))
        self.ledger.open()

    def ask(self, cpu: float, mem: float = 0.0) -> Waiting:
        waiting = self.admission.ask(Resources(cpu=cpu, mem=mem), 0, self.runs.now)
        self.waiting.append(waiting)
        return waiting

    def look(self) -> list[Waiting]:
        now = self.runs.now
        with self.ledger.turn(now) as others:
            assert others is not None
            admitted = self.admission.admit(now, others, self.ledger.name)
            self.ledger.write(self.admission.held, self.admission.oldest(self.ledger.name), now)
        for waiting in admitted:
            self.waiting.remove(waiting)
        self.running += admitted
        return admitted

    def others(self) -> Others:
        with self.ledger.turn(self.runs.now) as others:
            assert others is not None
            return others

    def end(self, waiting: Waiting) -> None:
        self.running.remove(waiting)
        self.admission.release(waiting)
        self.look()

    def die(self) -> None:
        """Be killed: locks are gone, files are not."""
        path = Path(self.ledger._path(self.ledger.name))
        kept = path.read_bytes()
        self.ledger.close()
        path.write_bytes(kept)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_a_run_that_is_alone_has_all(runs: Runs) -> None:
    one = runs.run()
    assert one.others() is ALONE
    wanted = [one.ask(1), one.ask(1)]
    assert one.look() == wanted


def test_what_one_run_has_another_has_not(runs: Runs) -> None:
    one, two = runs.run(), runs.run()
    first, second, third = one.ask(1, 3.0), two.ask(1, 3.0), two.ask(1, 3.0)
    assert one.look() == [first]
    assert two.look() == [second]
    one.end(first)
    assert two.look() == [third]


def test_a_run_that_ends_gives_all_back(runs: Runs) -> None:
    one, two = runs.run(), runs.run()
    one.ask(2)
    one.look()
    wanted = two.ask(2)
    assert two.look() == []
    one.ledger.close()
    assert two.look() == [wanted]
    assert two.others().count == 0


def test_a_run_that_was_killed_gives_all_back_at_once(runs: Runs) -> None:
    one, two = runs.run(), runs.run()
    one.ask(2)
    one.look()
    wanted = two.ask(2)
    one.die()
    assert two.look() == [wanted]
    assert two.others() is ALONE


def test_what_goes_on_running_of_a_killed_run_stays_counted(runs: Runs) -> None:
    one, two = runs.run("/one"), runs.run("/two")
    one.ask(1)
    one.ask(1)
    one.look()
    wanted = [two.ask(1), two.ask(1)]
    runs.surviving["/one"] = {"cpu": 1000}
    one.die()
    assert two.look() == wanted[:1]
    assert two.look() == []
    runs.surviving.clear()
    assert two.look() == wanted[1:]


def test_what_nobody_waits_for_does_not_stop_a_run_for_ever(runs: Runs) -> None:
    one, two = runs.run("/one"), runs.run("/two")
    one.ask(2)
    one.look()
    runs.surviving["/one"] = {"cpu": 2000}
    one.die()
    first, second = two.ask(1), two.ask(1)
    assert two.look() == [first]
    assert two.look() == []
    two.end(first)
    assert two.running == [second]


def test_a_restart_of_the_machine_clears_the_ledger(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    one = runs.run("/one")
    one.ask(2)
    one.look()
    one.die()
    runs.surviving["/one"] = {"cpu": 2000}
    monkeypatch.setattr(ledger_module, "_boot_id", lambda: "another boot")
    assert runs.run().others() is ALONE


@pytest.mark.parametrize("text", [b"", b"garbage\n", b"[1,2]\n", b'{"a":1}\n', b"\xff\xfe\n"])
def test_a_file_that_says_nothing_counts_for_nothing(runs: Runs, text: bytes) -> None:
    one = runs.run()
    path = Path(one.ledger._path("123-abc"))
    path.write_bytes(text)
    assert one.others().taken == {}
    assert not path.exists()


def test_a_lock_that_is_not_let_go_of_does_not_hang(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_LOCK_WAIT_S", 0.0)
    one, two = runs.run(), runs.run()
    with one.ledger.turn(0.0), two.ledger.turn(0.0) as others:
        assert others is None
    assert two.others() is not None


def test_a_run_that_waits_gets_what_the_other_would_take_again(runs: Runs) -> None:
    one, two = runs.run(), runs.run()
    many = [one.ask(1) for _ in range(4)]
    one.look()
    wanted = two.ask(1)
    assert two.look() == []
    runs.now = 1.5
    two.look()
    one.end(many[0])
    assert one.running == [many[1]]
    assert two.look() == [wanted]


def test_a_big_task_is_not_passed_for_ever_by_the_small_ones_of_another_run(runs: Runs) -> None:
    one, two = runs.run(), runs.run()
    small = [one.ask(1), one.ask(1)]
    one.look()
    big = two.ask(2)
    for _ in range(200):
        runs.now += 1.0
        if two.look() == [big]:
            break
        small.append(one.ask(1))
        one.end(one.running[0]) if one.running else one.look()
    assert two.running == [big]
    assert runs.now < 70


def test_one_that_is_stopped_is_not_waited_for(runs: Runs) -> None:
    one, two = runs.run(), runs.run()
    first = one.ask(2)
    one.look()
    two.ask(2)
    two.look()
    runs.now = 100.0
    again = one.ask(1)
    one.end(first)
    assert one.running == [again]


def test_shares_are_of_what_is_scarcest() -> None:
    assert share_of({"cpu": 1, "mem": 3}, {"cpu": 2, "mem": 4}) == 0.75
    assert share_of({}, {"cpu": 2}) == 0.0


def test_of_two_that_wait_never_both_give_way() -> None:
    chance = random.Random(5)
    for _ in range(2000):
        wants = [
            Want({"cpu": 1}, chance.choice([0.0, 30.0, 89.0]), chance.choice([0.0, 0.5]), name)
            for name in "ab"
        ]
        ways = [
            Others(1, {}, {}, (wants[1 - number],)).go_before(wants[number], {"cpu": 2}, 90.0, 60.0)
            for number in (0, 1)
        ]
        assert not all(ways)


@pytest.mark.parametrize("seed", range(12))
def test_runs_that_come_and_go_and_die_never_take_too_much_and_all_get_done(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    world = Runs(tmp_path, Resources(mem=8.0, cpu=4.0))
    live: list[One] = [world.run("/0")]
    for number in range(1, 400):
        world.now += chance.expovariate(2.0)
        _act(world, live, chance, f"/{number}")
        _check(world, live)
    for _ in range(10_000):
        if not any(one.waiting or one.running for one in live):
            break
        world.now += 0.2
        for one in live:
            if one.running and chance.random() < 0.5:
                one.end(chance.choice(one.running))
            one.look()
            _check(world, live)
        world.surviving.clear()
    assert not any(one.waiting for one in live)
    for one in live:
        one.ledger.close()


def _act(world: Runs, live: list[One], chance: random.Random, fresh: str) -> None:
    one = chance.choice(live)
    match chance.choices(["ask", "look", "end", "come", "die", "survivor ends"], [6, 6, 4, 1, 0.5, 1])[0]:
        case "ask":
            one.ask(chance.choice([0, 1, 1, 2, 4]), chance.choice([0.0, 1.0, 4.0]))
            one.look()
        case "look":
            one.look()
        case "end" if one.running:
            one.end(chance.choice(one.running))
        case "come" if len(live) < 5:
            live.append(world.run(fresh))
        case "die" if len(live) > 1:
            kept = [dict(waiting.amounts) for waiting in one.running if chance.random() < 0.5]
            world.surviving[one.local_dir] = {
                name: sum(each.get(name, 0) for each in kept) for name in ("cpu", "mem")
            }
            one.die()
            live.remove(one)
        case "survivor ends" if world.surviving:
            del world.surviving[chance.choice(sorted(world.surviving))]
        case _:
            pass


def _check(world: Runs, live: list[One]) -> None:
    """All live runs together hold no more than there is; so do dead ones, unless one task went past them."""
    total = Admission(world.machine).total
    for name, amount in total.items():
        used = sum(one.admission.held[name] for one in live)
        assert used <= amount, f"{name} is over-committed: {used} of {amount}"
    for one in live:
        held = dict.fromkeys(total, 0)
        for waiting in one.running:
            for name, amount in waiting.amounts:
                held[name] += amount
        assert held == one.admission.held
