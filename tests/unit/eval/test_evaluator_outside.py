"""Data, local files, interns and externs: what comes from outside, and goes there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.execconfig import InputArg
from reflow.core.fileset import File, Fileset
from reflow.flow.data import LocalFile
from reflow.flow.node import Data, Extern, Flow, Intern, Merge, Pullup, Val
from tests.evalbench import Bench
from tests.fakes import (
    an_exec,
    output,
)


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
