"""What the evaluator notes of its decisions, and dry runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reflow.assoc import Kind
from reflow.core.assertion import AssertionKey, Assertions
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import encode_fileset
from reflow.eval import CacheMode, EvalStats
from reflow.eval.explain import Verdict, WouldRunError, total_stats
from reflow.flow.digest import cache_keys, digest
from reflow.flow.node import Data, Extern, Flow, Intern, K, Merge, Val
from tests.evalbench import Bench
from tests.fakes import (
    Shell,
    an_exec,
    output,
    then,
)


class Setup(Bench):
    """A bench that tells what the evaluator of the last run decided."""

    def verdicts(self) -> dict[str, Verdict]:
        """Verdicts by identifier."""
        decisions = self.evaluator.decisions
        found = {each.node.ident: each.verdict for each in decisions.found}
        return found | {each.node.ident: each.miss.verdict for each in decisions.executed}

    def detail(self, ident: str) -> str:
        (detail,) = [
            each.miss.detail for each in self.evaluator.decisions.executed if each.node.ident == ident
        ]
        return str(detail)


@pytest.fixture
def setup() -> Setup:
    return Setup()


async def test_a_first_run_finds_nothing_and_a_second_everything(setup: Setup) -> None:
    root = output(an_exec("b", output(an_exec("a"))))
    await setup.run(root)
    assert setup.verdicts() == {"a": Verdict.NOT_FOUND, "b": Verdict.NOT_FOUND}
    (a, b) = setup.evaluator.decisions.executed
    assert (a.node.ident, b.node.ident) == ("a", "b")
    assert a.has_run
    assert a.value is not None
    assert b.values == [a.value.members[0]]
    await setup.run(root)
    # What is above is looked up first, by its logical digest: what is below is not even looked at.
    assert setup.verdicts() == {"b": Verdict.HIT_LOGICAL}


async def test_from_below_nodes_are_found_by_the_contents_of_their_inputs(setup: Setup) -> None:
    root = output(an_exec("b", output(an_exec("a"))))
    await setup.run(root)
    await setup.run(root, bottom_up=True)
    assert setup.verdicts() == {"a": Verdict.HIT_EXACT, "b": Verdict.HIT_EXACT}


async def test_an_input_that_came_out_as_before_makes_a_hit(setup: Setup) -> None:
    setup.shell.outputs = {"up": b"same", "edited": b"same"}
    await setup.run(output(an_exec("down", output(an_exec("up")), cmd="down")))
    await setup.run(output(an_exec("down", output(an_exec("edited")), cmd="down")))
    assert setup.verdicts() == {"edited": Verdict.NOT_FOUND, "down": Verdict.HIT_EXACT}


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"cache": CacheMode.OFF}, Verdict.CACHE_OFF),
        ({"cache": CacheMode.WRITE}, Verdict.CACHE_OFF),
        ({"assoc": None}, Verdict.CACHE_OFF),
        ({"invalidate": lambda node: node.ident == "a"}, Verdict.INVALIDATED),
    ],
)
async def test_look_ups_that_were_not_made_say_why(
    setup: Setup, options: dict[str, Any], verdict: Verdict
) -> None:
    await setup.run(an_exec("a"))
    await setup.run(an_exec("a"), **options)
    assert setup.verdicts() == {"a": verdict}


async def test_what_is_below_an_extern_is_said(setup: Setup) -> None:
    extern = Extern("s3://b/k", output(an_exec("a")), ident="copy")
    root = an_exec("c", extern)
    await setup.run(root)
    assert setup.verdicts() == {
        "a": Verdict.NOT_FOUND,
        "copy": Verdict.NEVER_CACHED,
        "c": Verdict.BELOW_EXTERN,
    }


async def test_missing_objects_are_named(setup: Setup) -> None:
    outcome = await setup.run(an_exec("a"))
    (file,) = outcome.value.all_files()
    setup.repository.lost.add(file.id)
    await setup.run(an_exec("a"))
    assert setup.verdicts() == {"a": Verdict.OBJECTS_MISSING}
    assert file.id.short in setup.detail("a")


async def test_trouble_of_the_storage_is_told(setup: Setup) -> None:
    await setup.run(an_exec("a"))
    setup.assoc.broken = ReflowError(ErrorKind.UNAVAILABLE, "assoc")
    await setup.run(an_exec("a"), is_saved=False)
    assert setup.verdicts() == {"a": Verdict.TROUBLE}
    assert "unavailable" in setup.detail("a")


async def test_a_reference_is_no_execution(setup: Setup) -> None:
    async def snapshot(url: str) -> Fileset:
        return Fileset.of_file(File(size=1, source=url, etag='"e"'))

    await setup.run(an_exec("a", Intern("s3://b/k", ident="in")), snapshot=snapshot)
    assert setup.verdicts() == {"in": Verdict.REFERENCE, "a": Verdict.NOT_FOUND}
    assert not Verdict.REFERENCE.is_executed


def blob(etag: str) -> Assertions:
    return Assertions({AssertionKey("blob", "s3://b/k"): {"etag": etag}})


async def test_a_conflict_with_what_is_so_now_is_told(setup: Setup) -> None:
    async def snapshot(url: str) -> Fileset:
        etag = etags.pop(0)
        return Fileset.of_file(File(size=1, source=url, etag=etag, assertions=blob(etag)))

    async def current(key: AssertionKey) -> Assertions:
        return blob("two")

    etags = ["one", "two"]
    node = an_exec("a", Intern("s3://b/k", ident="in"))
    await setup.run(node, snapshot=snapshot)
    await setup.run(node, snapshot=snapshot, current_assertions=current, is_dry=True)
    assert setup.verdicts()["a"] is Verdict.CONTRADICTED
    assert "was etag=one, is etag=two" in setup.detail("a")


async def test_failures_and_what_did_not_come_to_its_turn_are_noted(setup: Setup) -> None:
    setup.shell.failures["bad"] = [ReflowError(ErrorKind.DOCKER_EXEC, "exec")]
    await setup.run(an_exec("below", output(an_exec("bad"))))
    (bad,) = setup.evaluator.decisions.executed
    assert bad.error is not None
    assert bad.value is None


async def test_what_waits_when_something_fails_was_not_tried(setup: Setup) -> None:
    evaluator = setup.fresh()
    setup.shell.failures["bad"] = [ReflowError(ErrorKind.DOCKER_EXEC, "exec")]
    setup.shell.gates["slow"] = asyncio.Event()
    chain = output(an_exec("later", output(an_exec("slow"))))
    running = asyncio.ensure_future(evaluator.run(Merge([chain, output(an_exec("bad"))])))
    await asyncio.sleep(0.05)
    setup.shell.gates["slow"].set()
    await running
    outcomes = {each.node.ident: each for each in evaluator.decisions.executed}
    assert outcomes["bad"].error is not None
    assert outcomes["slow"].value is not None, "what runs is finished"
    assert "later" not in outcomes


async def test_a_run_that_is_cancelled_leaves_its_execs_unfinished(setup: Setup) -> None:
    setup.shell.gates["slow"] = asyncio.Event()
    evaluator = setup.fresh()
    running = asyncio.ensure_future(evaluator.run(an_exec("slow")))
    for _ in range(2000):
        if setup.shell.ran == ["slow"]:
            break
        await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (slow,) = evaluator.decisions.executed
    assert slow.has_run
    assert (slow.value, slow.error) == (None, None)


async def empty_entry(setup: Setup, node: Flow) -> None:
    """What the original caches for a command that has not written its output."""
    (stored,) = await setup.repository.put_bytes_many([encode_fileset(Fileset(members=[Fileset()]))])
    setup.assoc.rows = {(Kind.FILESET_V2, cache_keys(node, [])[0]): stored}


async def test_an_empty_value_of_the_original_is_taken_with_a_warning_and_not_spread(setup: Setup) -> None:
    node = an_exec("a")
    await empty_entry(setup, node)
    outcome = await setup.run(node)
    assert setup.shell.ran == []
    assert outcome.value.members[0].is_empty()
    (warning,) = setup.report.texts("info")
    assert warning.startswith("warning: a: its value has no file for out; -recomputeempty")
    assert len(setup.assoc.rows) == 1, "its other keys are not set to such a value"


async def test_an_empty_value_is_computed_again_when_asked(setup: Setup) -> None:
    node = an_exec("a")
    await empty_entry(setup, node)
    await setup.run(node, recompute_empty=True)
    assert setup.verdicts() == {"a": Verdict.EMPTY}
    assert setup.shell.ran == ["a"]


async def test_a_value_without_an_output_is_never_written(setup: Setup) -> None:
    class Careless(Shell):
        async def __call__(self, config: Any) -> Any:
            from reflow.core.execconfig import ExecResult

            return ExecResult(Fileset(members=[Fileset()]))

    setup.shell = Careless(setup.repository)
    await setup.run(an_exec("a"))
    assert setup.assoc.rows == {}
    assert setup.report.texts("error") == ["a is not cached: its value has no file for out"]


# Dry runs.


async def test_a_dry_run_executes_and_writes_nothing(setup: Setup) -> None:
    data = Data(b"bytes", ident="data")
    root = Merge([output(an_exec("b", output(an_exec("a")))), output(an_exec("c", data))])
    outcome = await setup.run(root, is_dry=True)
    assert isinstance(outcome.error, WouldRunError)
    assert setup.shell.ran == []
    assert setup.assoc.rows == {}
    assert "put_bytes_many" not in setup.repository.calls
    assert setup.verdicts() == {"a": Verdict.NOT_FOUND, "c": Verdict.NOT_FOUND}
    assert setup.evaluator.stats.waiting == 0


async def test_a_dry_run_of_what_is_cached_has_the_value(setup: Setup) -> None:
    root = output(an_exec("b", output(an_exec("a"))))
    outcome = await setup.run(root)
    again = await setup.run(root, is_dry=True)
    assert again == outcome
    assert setup.verdicts() == {"b": Verdict.HIT_LOGICAL}


async def test_a_dry_run_repairs_nothing(setup: Setup) -> None:
    node = an_exec("a")
    await setup.run(node)
    del setup.assoc.rows[Kind.FILESET_V2, digest(node)]
    await setup.run(node, is_dry=True)
    assert digest(node) not in {key for _, key in setup.assoc.rows}


async def test_what_depends_on_something_not_executed_is_undecided(setup: Setup) -> None:
    chain = then(output(an_exec("a")), fn=lambda values: an_exec("b"), ident="later")
    await setup.run(Merge([chain, output(an_exec("c"))]), is_dry=True)
    undecided = [
        node.ident
        for node, error in setup.evaluator.failed()
        if isinstance(node, K) and isinstance(error, WouldRunError)
    ]
    assert undecided == ["later"]
    assert set(setup.verdicts()) == {"a", "c"}


async def test_an_error_of_the_program_shows_in_a_dry_run(setup: Setup) -> None:
    bad = Val(error=ReflowError(ErrorKind.MODULE, "panic"))
    await setup.run(Merge([output(an_exec("a")), output(an_exec("b", bad))]), is_dry=True)
    errors = [error for _, error in setup.evaluator.failed() if not isinstance(error, WouldRunError)]
    assert errors
    assert all(error is bad.error for error in errors)


async def test_a_run_that_was_evaluated_twice_counts_each_exec_once(setup: Setup) -> None:
    root = Merge([output(an_exec("a")), output(an_exec("b"))])
    setup.shell.failures["b"] = [ReflowError(ErrorKind.UNAVAILABLE, "exec")]
    await setup.run(root)
    first = setup.evaluator
    await setup.run(root)
    second = setup.evaluator
    assert (second.stats.executed, second.stats.cached) == (1, 1)
    both = total_stats(second.stats, [first.decisions, second.decisions])
    assert (both.executed, both.cached, both.failed) == (2, 0, 0)
    assert total_stats(EvalStats(executed=7), [first.decisions]).executed == 7


async def test_look_ups_and_writes_are_spans(setup: Setup) -> None:
    spans: list[tuple[str, str, Digest]] = []

    def take(category: str, name: str, id: Digest, began_s: float, notes: Any) -> None:
        spans.append((category, name, id))

    node = an_exec("a")
    await setup.run(node, span=take)
    assert [name for _, name, _ in spans] == ["batch cache lookup (1)", f"cache write {digest(node).short}"]
    assert spans[0][2] == Digest.of_text("batch cache lookup")
    assert spans[1][::2] == ("Cache", digest(node))
