"""The evaluator over in-memory storage and execs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, ReflowError, kind_of
from reflow.core.execconfig import InputArg
from reflow.core.fileset import EMPTY_FILESET, File, Fileset
from reflow.core.resources import Resources
from reflow.eval import CacheMode, EvalConfig, Outcome
from reflow.eval.cache import CacheWriter
from reflow.eval.evaluator import Evaluator
from reflow.flow.data import LocalFile
from reflow.flow.node import Coerce, Data, Extern, Flow, Intern, Merge, Pullup, Val
from reflow.sched.local import LocalScheduler
from tests.fakes import (
    BIG_MACHINE,
    CountingAssoc,
    CountingRepository,
    MemoryExecutor,
    MemoryScheduler,
    RecordingReport,
    Shell,
    a_value,
    an_exec,
    output,
    then,
)


class Bench:
    """One repository and assoc, and a fresh evaluator, shell and report for each run."""

    def __init__(self) -> None:
        self.repository = CountingRepository()
        self.assoc = CountingAssoc()
        self.shell = Shell(self.repository)
        self.report = RecordingReport()
        self.scheduler: Any = MemoryScheduler(self.shell)
        self.evaluator = self.fresh()

    def fresh(self, resources: Resources = BIG_MACHINE, **options: Any) -> Evaluator:
        """A new evaluator with a new report and a new log of what ran."""
        self.shell.ran, self.shell.ended = [], []
        self.report = RecordingReport()
        self.scheduler = options.pop("scheduler", None) or MemoryScheduler(self.shell, resources)
        options.setdefault("assoc", self.assoc)
        self.evaluator = Evaluator(
            EvalConfig(scheduler=self.scheduler, repository=self.repository, report=self.report, **options)
        )
        return self.evaluator

    async def run(self, root: Flow, **options: Any) -> Outcome:
        """Evaluate with a fresh evaluator, and finish its cache writes."""
        evaluator = self.fresh(**options)
        outcome = await evaluator.run(root)
        assert await evaluator.drain() == []
        assert evaluator.stats.running == evaluator.stats.waiting == 0
        return outcome


@pytest.fixture
def bench() -> Bench:
    return Bench()


def pipeline() -> Flow:
    """a -> b, a -> c, (b, c) -> d."""
    a = output(an_exec("a"))
    return output(an_exec("d", output(an_exec("b", a)), output(an_exec("c", a))))


def failed(kind: Kind = Kind.DOCKER_EXEC) -> ReflowError:
    return ReflowError(kind, "exec", cause="exited with code 3")


async def until(condition: Any) -> None:
    """Let the loop turn until something is so."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.0005)
    raise AssertionError("it never came")


async def test_everything_runs_once_and_in_order(bench: Bench) -> None:
    outcome = await bench.run(pipeline())
    assert isinstance(outcome.value, Fileset)
    assert bench.shell.ran[0] == "a"
    assert sorted(bench.shell.ran[1:3]) == ["b", "c"]
    assert bench.shell.ran[3:] == ["d"]
    assert (bench.evaluator.stats.executed, bench.evaluator.stats.cached) == (4, 0)
    assert bench.evaluator.stats.total == bench.evaluator.stats.completed == 4


async def test_a_value_needs_nothing(bench: Bench) -> None:
    assert await bench.run(a_value(3)) == Outcome(3)
    assert bench.assoc.calls.total() == 0


async def test_a_second_run_executes_nothing_and_asks_little(bench: Bench) -> None:
    first = await bench.run(pipeline())
    bench.assoc.calls.clear()
    second = await bench.run(pipeline())
    assert second == first
    assert bench.shell.ran == []
    assert (bench.evaluator.stats.executed, bench.evaluator.stats.cached) == (0, 1)
    assert bench.assoc.calls == {"get_many": 1}
    assert bench.report.of("cached") == ["d"]


async def test_the_root_is_looked_up_even_when_it_is_an_exec(bench: Bench) -> None:
    await bench.run(an_exec("root"))
    await bench.run(an_exec("root"))
    assert bench.shell.ran == []


async def test_from_below_everything_is_looked_up(bench: Bench) -> None:
    await bench.run(pipeline())
    await bench.run(pipeline(), bottom_up=True)
    assert bench.shell.ran == []
    assert sorted(map(str, bench.report.of("cached"))) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("bottom_up", [False, True])
async def test_the_two_ways_leave_the_same_cache(bench: Bench, bottom_up: bool) -> None:
    other = Bench()
    await bench.run(pipeline())
    await other.run(pipeline(), bottom_up=True)
    assert bench.assoc.rows == other.assoc.rows


async def test_a_wide_graph_is_looked_up_with_one_request(bench: Bench) -> None:
    root = Merge([output(an_exec(f"e{number}")) for number in range(500)])
    await bench.run(root)
    bench.assoc.calls.clear()
    bench.repository.calls.clear()
    await bench.run(root)
    assert bench.evaluator.stats.cached == 500
    assert bench.assoc.calls == {"get_many": 1}
    assert bench.repository.calls == {"read_many": 1, "missing": 1}


async def test_laziness_a_branch_not_taken_is_not_run(bench: Bench) -> None:
    yes, no = output(an_exec("yes")), output(an_exec("no"))
    test = output(an_exec("test"))
    await bench.run(then(test, fn=lambda values: yes if values else no))
    assert bench.shell.ran == ["test", "yes"]


async def test_dynamic_nodes_are_evaluated_as_they_appear(bench: Bench) -> None:
    def scatter(values: list[Any]) -> Flow:
        parts = [output(an_exec(f"part{number}", Val(values[0]))) for number in range(3)]
        return output(an_exec("gather", Merge(parts)))

    root = then(output(an_exec("split")), fn=scatter)
    await bench.run(root)
    assert bench.shell.ran[0] == "split"
    assert sorted(bench.shell.ran[1:4]) == ["part0", "part1", "part2"]
    assert bench.shell.ran[4] == "gather"
    await bench.run(root)
    assert bench.shell.ran == []


async def test_equal_execs_run_once(bench: Bench) -> None:
    twins = [output(an_exec("one", cmd="twin")), output(an_exec("two", cmd="twin"))]
    await bench.run(then(*twins, fn=lambda values: output(an_exec("three", cmd="twin"))))
    assert bench.shell.ran == ["one"]


async def test_results_reach_whoever_needs_only_their_contents(bench: Bench) -> None:
    # The upstream command is edited but writes the same bytes: what is below is found by its inputs.
    bench.shell.outputs = {"up": b"same", "edited": b"same"}
    await bench.run(output(an_exec("down", output(an_exec("up")), cmd="down")))
    await bench.run(output(an_exec("down", output(an_exec("edited")), cmd="down")))
    assert bench.shell.ran == ["edited"]


async def test_a_missing_object_is_a_miss_and_is_said(bench: Bench) -> None:
    outcome = await bench.run(pipeline())
    bench.repository.lost |= {file.id for file in outcome.value.all_files()}
    again = await bench.run(pipeline())
    assert again == outcome
    assert bench.shell.ran == ["d"]
    (text,) = bench.report.texts("error")
    assert text.startswith("cache.Lookup d: resource does not exist: missing 1 files (")


async def test_a_lost_value_object_is_a_miss(bench: Bench) -> None:
    await bench.run(an_exec("a"))
    bench.repository.lost |= set(bench.assoc.rows.values())
    await bench.run(an_exec("a"))
    assert bench.shell.ran == ["a"]
    assert bench.report.texts("error") == []


async def test_a_damaged_value_object_is_a_miss_and_is_said(bench: Bench) -> None:
    await bench.run(an_exec("a"))
    (bad,) = await bench.repository.put_bytes_many([b"v201 rubbish"])
    bench.assoc.rows = dict.fromkeys(bench.assoc.rows, bad)
    await bench.run(an_exec("a"))
    assert bench.shell.ran == ["a"]
    assert any("unmarshal" in text for text in bench.report.texts("error"))


@pytest.mark.parametrize("what", ["assoc", "repository"])
async def test_storage_that_does_not_answer_makes_misses_not_failures(bench: Bench, what: str) -> None:
    await bench.run(an_exec("a"))
    evaluator = bench.fresh()
    getattr(bench, what).broken = ReflowError(Kind.UNAVAILABLE, what)
    bench.shell.repository = CountingRepository()
    outcome = await evaluator.run(an_exec("a"))
    assert outcome.error is None
    assert bench.shell.ran == ["a"]
    (failure,) = await evaluator.drain()
    assert failure.startswith("cache write a: ")


async def test_of_a_batch_that_is_not_written_every_result_counts_and_the_reason_is_said_once() -> None:
    assoc = CountingAssoc()
    assoc.broken = ReflowError(Kind.UNAVAILABLE, "assoc")
    said: list[str] = []
    writer = CacheWriter(assoc, CountingRepository(), None, lambda level, text: said.append(text))
    for name in "abcd":
        writer.add(an_exec(name), [Digest.of(name.encode())], EMPTY_FILESET)
    assert len(await writer.drain()) == 4
    assert len(said) == 1
    assert said[0].startswith("cache write a, b, c, …: ")


async def test_invalidated_nodes_are_run_again(bench: Bench) -> None:
    await bench.run(pipeline())
    await bench.run(pipeline(), invalidate=lambda node: node.ident in "bd")
    assert sorted(bench.shell.ran) == ["b", "d"]


@pytest.mark.parametrize(
    ("mode", "looked_up", "written"),
    [
        (CacheMode.OFF, False, False),
        (CacheMode.READ, True, False),
        (CacheMode.WRITE, False, True),
        (CacheMode.READWRITE, True, True),
    ],
)
async def test_cache_modes(bench: Bench, mode: CacheMode, looked_up: bool, written: bool) -> None:
    await bench.run(an_exec("a"), cache=mode)
    assert bool(bench.assoc.asked) is looked_up
    assert bool(bench.assoc.rows) is written


async def test_without_an_assoc_all_is_run(bench: Bench) -> None:
    await bench.run(an_exec("a"), assoc=None)
    await bench.run(an_exec("a"), assoc=None)
    assert bench.shell.ran == ["a"]


async def test_empty_results_are_recomputed_on_demand(bench: Bench) -> None:
    class Nothing(Shell):
        async def _write(self, config: Any) -> File:
            raise AssertionError

    root = an_exec("a")
    await bench.run(root)
    key = next(iter(bench.assoc.rows))
    from reflow.core.filesetcodec import encode_fileset

    (empty,) = await bench.repository.put_bytes_many([encode_fileset(Fileset(members=[Fileset()]))])
    bench.assoc.rows = dict.fromkeys(bench.assoc.rows, empty)
    assert key in bench.assoc.rows
    await bench.run(root)
    assert bench.shell.ran == []
    await bench.run(root, recompute_empty=True)
    assert bench.shell.ran == ["a"]


async def test_a_failure_stops_new_work_but_what_runs_is_finished_and_cached(bench: Bench) -> None:
    bench.shell.gates["slow"] = asyncio.Event()
    bench.shell.failures["bad"] = [failed()]
    small = MemoryExecutor(bench.shell, Resources(mem=float(8 << 30), cpu=2.0, disk=1e12))
    later = [output(an_exec(f"later{number}")) for number in range(3)]
    root = Merge([output(an_exec("slow")), output(an_exec("bad")), *later])
    evaluator = bench.fresh(scheduler=LocalScheduler(small))
    running = asyncio.ensure_future(evaluator.run(root))
    await until(lambda: bench.shell.ended == ["bad"])
    await asyncio.sleep(0.005)
    assert not running.done()
    bench.shell.gates["slow"].set()
    outcome = await running
    assert kind_of(outcome.error) is Kind.DOCKER_EXEC
    assert bench.shell.ran == ["slow", "bad"]
    assert (evaluator.stats.executed, evaluator.stats.failed, evaluator.stats.waiting) == (2, 1, 0)
    await evaluator.drain()
    await bench.run(output(an_exec("slow")))
    assert bench.shell.ran == []


async def test_keep_going_runs_all_that_does_not_depend_on_the_failure(bench: Bench) -> None:
    bench.shell.failures["bad"] = [failed()]
    good = output(an_exec("after", output(an_exec("good"))))
    root = Merge([output(an_exec("below", output(an_exec("bad")))), good])
    outcome = await bench.run(root, keep_going=True)
    assert kind_of(outcome.error) is Kind.DOCKER_EXEC
    assert sorted(bench.shell.ran) == ["after", "bad", "good"]
    assert bench.evaluator.stats.failed == 1


async def test_errors_of_the_program_come_out_as_they_are(bench: Bench) -> None:
    error = ProgramError("main.rf:1:1: bad")

    def fail(value: object) -> object:
        raise error

    outcome = await bench.run(Coerce(fail, output(an_exec("a")), Digest.of(b"f")))
    assert outcome.error is error


async def test_a_bug_in_a_job_ends_the_run_with_an_internal_error(bench: Bench) -> None:
    def burst(key: Digest) -> Digest:
        raise ZeroDivisionError("bug")

    evaluator = bench.fresh(key_namespace=burst)
    outcome = await evaluator.run(output(an_exec("a")))
    assert str(outcome.error).startswith("internal error: fatal: ZeroDivisionError: bug")
    assert any("Traceback" in text for text in bench.report.texts("error"))


async def test_cancelling_kills_what_runs_and_keeps_what_was_finished(bench: Bench) -> None:
    bench.shell.gates["slow"] = asyncio.Event()
    root = Merge([output(an_exec("quick")), output(an_exec("slow"))])
    evaluator = bench.fresh()
    running = asyncio.ensure_future(evaluator.run(root))
    await until(lambda: ("finished", "quick", "ok") in bench.report.events)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bench.scheduler.executor.running == []
    assert ("finished", "slow", "Canceled") in bench.report.events
    assert await evaluator.drain() == []
    await bench.run(output(an_exec("quick")))
    assert bench.shell.ran == []


async def test_an_exec_that_ran_out_of_memory_gets_half_as_much_again(bench: Bench) -> None:
    bench.shell.failures["a"] = [failed(Kind.OOM), failed(Kind.OOM)]
    outcome = await bench.run(an_exec("a", mem=1 << 30))
    assert outcome.error is None
    asked = [config.resources["mem"] for config in bench.scheduler.executor.put_configs]
    assert asked == [1 << 30, 1.5 * (1 << 30), 2.25 * (1 << 30)]
    assert bench.evaluator.stats.executed == 1
    first, second = bench.report.texts("info")
    assert (
        "retryTask (reason: OOM): re-submitting task with 1.5GiB of memory(1/3) due to error: exec: OOM"
        in first
    )
    assert "2.2GiB of memory(2/3)" in second


async def test_memory_grows_up_to_the_machine_and_no_further(bench: Bench) -> None:
    bench.shell.failures["a"] = [failed(Kind.OOM)] * 9
    outcome = await bench.run(
        an_exec("a", mem=1 << 30), resources=Resources(mem=1.2 * (1 << 30), cpu=1.0, disk=1.0)
    )
    assert kind_of(outcome.error) is Kind.OOM
    asked = [config.resources["mem"] for config in bench.scheduler.executor.put_configs]
    assert asked == [1 << 30, 1.2 * (1 << 30) // 1]


@pytest.mark.parametrize(("failures", "runs"), [(1, 2), (3, 4), (4, 4)])
async def test_temporary_failures_are_tried_three_times_more(bench: Bench, failures: int, runs: int) -> None:
    bench.shell.failures["a"] = [failed(Kind.TEMPORARY)] * failures
    outcome = await bench.run(an_exec("a"))
    assert bench.shell.ran == ["a"] * runs
    assert (outcome.error is None) is (failures < 4)


async def test_other_failures_and_trouble_of_the_machinery_are_not_tried_again(bench: Bench) -> None:
    bench.shell.failures["a"] = [failed()]
    bench.shell.trouble["b"] = [ReflowError(Kind.OOM, "machinery")]
    for ident in "ab":
        outcome = await bench.run(an_exec(ident))
        assert outcome.error is not None
        assert bench.shell.ran == [ident]


async def test_small_requests_are_raised_and_slightly_large_ones_cut(bench: Bench) -> None:
    machine = Resources(mem=float(2 << 30), cpu=2.0, disk=1e12)
    await bench.run(Merge([an_exec("small"), an_exec("large", mem=2.05 * (1 << 30))]), resources=machine)
    asked = {config.ident: config.resources for config in bench.scheduler.executor.put_configs}
    assert (asked["small"]["mem"], asked["small"]["cpu"]) == (500 << 20, 1)
    assert asked["large"]["mem"] == 2 << 30
    assert any("capping resources from" in text for text in bench.report.texts("info"))


async def test_an_exec_too_large_for_the_machine_is_refused_by_name(bench: Bench) -> None:
    small = MemoryExecutor(bench.shell, Resources(mem=float(4 << 30), cpu=2.0, disk=1e12))
    outcome = await bench.run(an_exec("main.big", mem=900 << 30), scheduler=LocalScheduler(small))
    assert kind_of(outcome.error) is Kind.RESOURCES_EXHAUSTED
    text = str(outcome.error)
    assert "required resource {mem:900.0GiB cpu:1 disk:0B} greater than available {mem:4.0GiB cpu:2" in text
    assert "main.big" in text
    assert "mem := 4*GiB" in text
    assert bench.report.events[-1] == ("finished", "main.big", "ResourcesExhausted")


async def test_inline_data_is_stored_and_local_files_are_not_copied(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"hello")
    file = LocalFile(str(path), os.stat(path))
    outcome = await bench.run(Merge([Data(b"inline"), Data(file)]))
    inline, local = (member.file() for member in outcome.value.members)
    assert inline == File(Digest.of(b"inline"), 6)
    assert local == File(Digest.of(b"hello"), 5)
    assert await bench.repository.missing([inline.id, local.id]) == {local.id}


async def test_local_files_are_kept_for_others_where_somebody_does_that(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"hello")
    file = LocalFile(str(path), os.stat(path))
    kept: list[LocalFile] = []

    async def keep_files(files: Sequence[LocalFile]) -> None:
        kept.extend(files)

    outcome = await bench.run(Merge([Data(b"inline"), Data(file)]), keep_files=keep_files)
    inline, local = (member.file() for member in outcome.value.members)
    assert (inline, local) == (File(Digest.of(b"inline"), 6), File(Digest.of(b"hello"), 5))
    assert kept == [file]


async def test_a_local_file_that_cannot_be_kept_fails_what_needs_it(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"hello")

    async def keep_files(files: Sequence[LocalFile]) -> None:
        raise ReflowError(Kind.NOT_ALLOWED, "upload", files[0].path)

    node = Data(LocalFile(str(path), os.stat(path)))
    outcome = await bench.run(an_exec("a", Pullup([node])), keep_files=keep_files)
    assert kind_of(outcome.error) is Kind.NOT_ALLOWED
    assert bench.shell.ran == []


async def test_contents_that_were_promised_are_given_as_the_reference_that_promised_them(
    bench: Bench,
) -> None:
    (name,) = await bench.repository.put_bytes_many([b"x"])
    promised = Fileset.of_file(File(None, 1, "s3://b/k", '"etag"', None, name))
    first = an_exec("first", Val(promised))
    contents = Fileset.of_file(File(name, 1))
    await bench.run(Merge([first, an_exec("then", Val(contents), output(first))]))
    configs = {config.ident: config for config in bench.scheduler.executor.put_configs}
    (argument, *_) = configs["then"].args
    assert isinstance(argument, InputArg)
    assert argument.fileset is promised


async def test_a_local_file_below_an_exec_is_hashed_before_it_is_looked_up(
    bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "in.txt"

    def graph() -> Flow:
        return output(an_exec("a", Pullup([Data(LocalFile(str(path), os.stat(path)))])))

    path.write_bytes(b"one")
    await bench.run(graph())
    await bench.run(graph())
    assert bench.shell.ran == []
    path.write_bytes(b"two")
    await bench.run(graph())
    assert bench.shell.ran == ["a"]


async def test_an_unreadable_local_file_fails_only_what_needs_it(bench: Bench, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"x")
    bad.write_bytes(b"x")
    nodes = [Data(LocalFile(str(path), os.stat(path))) for path in (good, bad)]
    bad.unlink()
    root = Merge([an_exec("reads good", Pullup([nodes[0]])), an_exec("reads bad", Pullup([nodes[1]]))])
    outcome = await bench.run(root, keep_going=True)
    assert kind_of(outcome.error) is Kind.NOT_EXIST
    assert bench.shell.ran == ["reads good"]


async def test_the_owner_of_local_inputs_may_hash_them(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"x")
    file = LocalFile(str(path), os.stat(path))
    asked: list[LocalFile] = []

    async def hash_files(files: Any) -> None:
        asked.extend(files)
        for each in files:
            each.hash()

    await bench.run(Merge([Data(file), Data(file)]), hash_files=hash_files)
    assert asked == [file]


async def test_externs_always_run_and_are_never_cached(bench: Bench) -> None:
    root = Extern("s3://b/k", output(an_exec("a")), ident="copy")
    for expected in (["a", "copy"], ["a", "copy"]):
        # What an extern depends on may be found; the extern itself is below no other extern.
        outcome = await bench.run(root)
        assert isinstance(outcome.value, Fileset)
        assert bench.shell.ran == expected[-len(bench.shell.ran) :]
    assert bench.shell.ran == ["copy"]
    assert bench.evaluator.stats.executed == 0


async def test_interns_become_references_without_a_task(bench: Bench) -> None:
    reference = Fileset.of_file(File(size=3, source="s3://b/k", etag='"e"'))

    async def snapshot(url: str) -> Fileset:
        if url == "s3://b/k":
            return reference
        raise ReflowError(Kind.NOT_SUPPORTED, "snapshot", url)

    root = Merge(
        [Intern("s3://b/k"), Intern("s3://b/k", must_intern=True, ident="must"), Intern("x://y", ident="no")]
    )
    outcome = await bench.run(root, snapshot=snapshot)
    assert outcome.value.members[0] == reference
    assert sorted(bench.shell.ran) == ["must", "no"]
    assert bench.report.texts("info") == [
        'must intern "x://y": resolve: snapshot x://y: operation not supported'
    ]
    # The one that was brought in is found by the plain intern of the same URL, as ever.
    outcome = await bench.run(Intern("s3://b/k"), snapshot=snapshot)
    assert outcome.value != reference


async def test_references_are_passed_to_execs_and_never_cached(bench: Bench) -> None:
    reference = Fileset.of_file(File(size=3, source="s3://b/k", etag='"e"'))

    async def snapshot(url: str) -> Fileset:
        return reference

    await bench.run(Intern("s3://b/k"), snapshot=snapshot)
    assert bench.assoc.rows == {}


async def test_submissions_wait_for_look_ups_but_not_for_ever(bench: Bench) -> None:
    release = asyncio.Event()

    async def snapshot(url: str) -> Fileset:
        await release.wait()
        return Fileset.of_file(File(size=3, source=url, etag='"e"'))

    root = Merge([output(an_exec("a")), Intern("s3://b/k")])
    evaluator = bench.fresh(snapshot=snapshot)
    running = asyncio.ensure_future(evaluator.run(root))
    await asyncio.sleep(0.02)
    assert bench.shell.ran == []
    await until(lambda: bench.shell.ended == ["a"])
    release.set()
    assert (await running).error is None


async def test_many_execs_are_given_to_the_scheduler_in_portions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reflow.eval.evaluator.MAX_SUBMITTED", 10)
    root = Merge([output(an_exec(f"e{number}")) for number in range(95)])
    machine = MemoryExecutor(bench.shell, Resources(mem=float(4 << 30), cpu=3.0, disk=1e12))
    outcome = await bench.run(root, scheduler=LocalScheduler(machine))
    assert outcome.error is None
    assert bench.evaluator.stats.executed == 95


async def test_an_evaluator_counts_for_its_summary(bench: Bench) -> None:
    await bench.run(pipeline())
    await bench.run(pipeline(), invalidate=lambda node: node.ident == "d")
    lines = bench.evaluator.summary.text(61).splitlines()
    assert lines[0] == "total n=3 time=1m1s"
    assert [line.split()[:3] for line in lines[2:]] == [["b", "1", "1"], ["c", "1", "1"], ["d", "1", "0"]]


@st.composite
def exec_graphs(draw: st.DrawFn) -> tuple[Flow, dict[str, set[str]], set[str]]:
    """A random graph of execs: its root, all execs below each (itself included), and some that fail."""
    nodes: list[Flow] = []
    below: dict[str, set[str]] = {}
    for number in range(draw(st.integers(1, 12))):
        ident = f"e{number}"
        picks = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        deps = [output(nodes[pick]) for pick in sorted(picks)]
        if draw(st.booleans()):
            made: Flow = an_exec(ident, *deps)
        else:
            made = then(*deps, fn=partial(_exec_of, ident))
        nodes.append(made)
        below[ident] = {ident}.union(*(below[f"e{pick}"] for pick in picks))
    failing = draw(st.sets(st.sampled_from(sorted(below)), max_size=2))
    return Merge(nodes), below, failing


def _exec_of(ident: str, values: list[Any]) -> Flow:
    return an_exec(ident, *map(Val, values))


@settings(max_examples=40, deadline=None)
@given(exec_graphs(), st.booleans())
def test_random_graphs_run_what_they_must_and_nothing_twice(
    graph: tuple[Flow, dict[str, set[str]], set[str]], bottom_up: bool
) -> None:
    root, below, failing = graph

    async def check() -> None:
        bench = Bench()
        for ident in failing:
            bench.shell.failures[ident] = [failed()]
        outcome = await bench.run(root, keep_going=True, bottom_up=bottom_up)
        reached = {ident for ident, all_below in below.items() if not (all_below - {ident}) & failing}
        assert sorted(bench.shell.ran) == sorted(reached)
        assert (outcome.error is not None) is bool(failing)
        bench.shell.failures.clear()
        outcome = await bench.run(root, bottom_up=bottom_up)
        assert outcome.error is None
        assert sorted(bench.shell.ran) == sorted(set(below) - (reached - failing))
        again = await bench.run(root, bottom_up=not bottom_up)
        assert again == outcome
        assert bench.shell.ran == []

    asyncio.run(check())
