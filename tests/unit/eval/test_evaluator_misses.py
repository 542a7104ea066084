"""What of the cache the evaluator takes, and what counts as a miss."""

from __future__ import annotations

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import EMPTY_FILESET, Fileset
from reflow.core.filesetcodec import encode_fileset
from reflow.eval import CacheMode
from reflow.eval.cache import CacheWriter
from tests.evalbench import Bench, pipeline
from tests.fakes import (
    CountingAssoc,
    CountingRepository,
    an_exec,
)


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
    root = an_exec("a")
    await bench.run(root)
    key = next(iter(bench.assoc.rows))
    (empty,) = await bench.repository.put_bytes_many([encode_fileset(Fileset(members=[Fileset()]))])
    bench.assoc.rows = dict.fromkeys(bench.assoc.rows, empty)
    assert key in bench.assoc.rows
    await bench.run(root)
    assert bench.shell.ran == []
    await bench.run(root, recompute_empty=True)
    assert bench.shell.ran == ["a"]
