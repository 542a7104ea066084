"""Keys, kinds, repair and assertions of the cache, through the evaluator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from reflow.assoc import Kind
from reflow.core.assertion import AssertionKey, Assertions
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError, kind_of
from reflow.core.execconfig import ExecConfig, ExecResult
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import decode_fileset, encode_fileset
from reflow.eval import CacheMode
from reflow.flow.digest import cache_keys, digest
from reflow.flow.node import Flow, Intern, Merge
from tests.evalbench import Bench
from tests.fakes import (
    MemoryScheduler,
    an_exec,
    output,
)

IMAGE = "index.docker.io/library/ubuntu@sha256:" + "0" * 64


class Setup(Bench):
    """A bench whose cache is looked into."""

    async def store(self, fileset: Fileset) -> Digest:
        (stored,) = await self.repository.put_bytes_many([encode_fileset(fileset)])
        return stored

    async def file(self, content: bytes, assertions: Assertions | None = None) -> File:
        (name,) = await self.repository.put_bytes_many([content])
        file = File(name, len(content))
        return file if assertions is None else file.with_assertions(assertions)

    def stored_keys(self) -> set[Digest]:
        return {key for _, key in self.assoc.rows}


@pytest.fixture
def setup() -> Setup:
    return Setup()


def resolver(answer: str | None, asked: list[str]) -> Callable[[str], Awaitable[str | None]]:
    async def resolve(image: str) -> str | None:
        asked.append(image)
        return answer

    return resolve


async def test_without_a_resolver_an_exec_has_two_keys(setup: Setup) -> None:
    node = an_exec("a")
    await setup.run(node)
    assert setup.stored_keys() == set(cache_keys(node, []))
    assert len(setup.stored_keys()) == 2


async def test_a_resolved_image_is_a_third_key_and_what_runs(setup: Setup) -> None:
    node = an_exec("a", image="ubuntu$aws")
    asked: list[str] = []
    await setup.run(node, resolve_image=resolver(IMAGE, asked))
    assert asked == ["ubuntu"]
    assert setup.stored_keys() == set(cache_keys(node, [], IMAGE))
    assert len(setup.stored_keys()) == 3
    (config,) = setup.scheduler.executor.put_configs
    assert (config.image, config.original_image) == (IMAGE, "ubuntu$aws")
    assert config.needs_aws_creds
    assert not config.needs_docker_access


async def test_an_image_nobody_knows_is_used_as_written(setup: Setup) -> None:
    async def resolve(image: str) -> str | None:
        raise ReflowError(ErrorKind.NOT_EXIST, "manifest", image)

    outcome = await setup.run(an_exec("a", image="mine$docker"), resolve_image=resolve)
    assert outcome.error is None
    assert len(setup.stored_keys()) == 2
    (config,) = setup.scheduler.executor.put_configs
    assert (config.image, config.needs_docker_access) == ("mine", True)
    assert "image mine$docker is used as written" in setup.report.texts("info")[0]


async def test_an_image_that_was_not_seen_before_the_evaluation_is_used_as_written(setup: Setup) -> None:
    asked: list[str] = []
    seen, unseen = an_exec("a", image="seen"), an_exec("b", image="unseen")
    await setup.run(
        Merge([output(seen), output(unseen)]), resolve_image=resolver(IMAGE, asked), images=["seen"]
    )
    assert asked == ["seen"]
    assert setup.stored_keys() == {*cache_keys(seen, [], IMAGE), *cache_keys(unseen, [])}
    assert {config.image for config in setup.scheduler.executor.put_configs} == {IMAGE, "unseen"}


async def test_images_are_asked_for_at_the_first_miss_and_once(setup: Setup) -> None:
    root = Merge([output(an_exec("a")), output(an_exec("b")), output(an_exec("c", output(an_exec("a"))))])
    asked: list[str] = []
    await setup.run(root, resolve_image=resolver(IMAGE, asked))
    assert asked == ["ubuntu"]
    await setup.run(root, resolve_image=resolver(IMAGE, asked))
    assert asked == ["ubuntu"]


async def test_the_keys_are_tried_from_the_most_concrete_on(setup: Setup) -> None:
    node = an_exec("a")
    resolved, written, logical = cache_keys(node, [], IMAGE)
    values = {}
    for key, content in ((resolved, b"resolved"), (written, b"written"), (logical, b"logical")):
        fileset = Fileset(members=[Fileset.of_file(await setup.file(content))])
        values[key] = await setup.store(fileset)
    for found, rows in (
        (b"written", (written, logical)),
        (b"logical", (logical,)),
        (b"resolved", (resolved,)),
    ):
        setup.assoc.rows = {(Kind.FILESET_V2, key): values[key] for key in rows}
        asked: list[str] = []
        outcome = await setup.run(node, resolve_image=resolver(IMAGE, asked))
        assert outcome.value.members[0].file().id == Digest.of(found)
        assert bool(asked) is (found == b"resolved")
        assert setup.shell.ran == []


async def test_a_namespace_maps_every_key(setup: Setup) -> None:
    node = an_exec("a")

    def namespace(key: Digest) -> Digest:
        return Digest.of(b"process" + key)

    await setup.run(node, key_namespace=namespace)
    assert setup.stored_keys() == {namespace(key) for key in cache_keys(node, [])}
    await setup.run(node, key_namespace=namespace)
    assert setup.shell.ran == []
    await setup.run(node)
    assert setup.shell.ran == ["a"]
    assert ("cached", "a") not in setup.report.events


async def test_absent_keys_are_repaired(setup: Setup) -> None:
    node = an_exec("a")
    await setup.run(node)
    everything = dict(setup.assoc.rows)
    del setup.assoc.rows[Kind.FILESET_V2, digest(node)]
    await setup.run(node)
    assert setup.shell.ran == []
    assert setup.assoc.rows == everything


async def test_nothing_is_repaired_when_the_cache_is_only_read(setup: Setup) -> None:
    node = an_exec("a")
    await setup.run(node)
    del setup.assoc.rows[Kind.FILESET_V2, digest(node)]
    await setup.run(node, cache=CacheMode.READ)
    assert setup.shell.ran == []
    assert digest(node) not in setup.stored_keys()


async def old_entry(setup: Setup, content: bytes) -> Digest:
    """A fileset in the JSON form of old versions."""
    file = await setup.file(content)
    text = f'{{"List":[{{"Fileset":{{".":{{"ID":"{file.id}","Size":{file.size}}}}}}}]}}'
    (stored,) = await setup.repository.put_bytes_many([text.encode()])
    return stored


async def test_old_entries_are_read_and_written_anew(setup: Setup) -> None:
    node = an_exec("a")
    setup.assoc.rows[Kind.FILESET, digest(node)] = await old_entry(setup, b"old")
    outcome = await setup.run(node)
    assert setup.shell.ran == []
    assert outcome.value.members[0].file().id == Digest.of(b"old")
    assert {key for kind, key in setup.assoc.rows if kind is Kind.FILESET_V2} == set(cache_keys(node, []))


async def test_any_new_entry_comes_before_every_old_one(setup: Setup) -> None:
    node = an_exec("a")
    concrete, logical = cache_keys(node, [])
    new = Fileset(members=[Fileset.of_file(await setup.file(b"new"))])
    setup.assoc.rows[Kind.FILESET, concrete] = await old_entry(setup, b"old")
    setup.assoc.rows[Kind.FILESET_V2, logical] = await setup.store(new)
    outcome = await setup.run(node)
    assert outcome.value.members[0].file().id == Digest.of(b"new")


async def test_a_result_that_lacks_a_file_is_not_cached(setup: Setup) -> None:
    async def vanish(config: ExecConfig) -> ExecResult:
        return ExecResult(Fileset(members=[Fileset.of_file(File(Digest.of(b"gone"), 4))]))

    outcome = await setup.run(an_exec("a"), is_saved=False, scheduler=MemoryScheduler(vanish))
    assert outcome.error is None
    assert setup.assoc.rows == {}
    (text,) = setup.report.texts("error")
    assert text == f"cache write a: repository memory: lacks 1 of its files: {Digest.of(b'gone').short}"


async def test_a_result_with_references_is_not_cached(setup: Setup) -> None:
    async def refer(config: ExecConfig) -> ExecResult:
        return ExecResult(Fileset(members=[Fileset.of_file(File(size=1, source="s3://b/k", etag='"e"'))]))

    await setup.run(an_exec("a"), is_saved=False, scheduler=MemoryScheduler(refer))
    assert setup.assoc.rows == {}


async def test_a_failed_exec_is_not_cached(setup: Setup) -> None:
    setup.shell.failures["a"] = [ReflowError(ErrorKind.DOCKER_EXEC, "exec")]
    await setup.run(an_exec("a"))
    assert setup.assoc.rows == {}


def blob(etag: str) -> Assertions:
    return Assertions({AssertionKey("blob", "s3://b/k"): {"etag": etag}})


def snapshot_of(etag: str) -> Callable[[str], Awaitable[Fileset]]:
    async def snapshot(url: str) -> Fileset:
        return Fileset.of_file(File(size=1, source=url, etag=etag, assertions=blob(etag)))

    return snapshot


async def test_a_result_asserts_what_its_inputs_assert(setup: Setup) -> None:
    await setup.run(an_exec("a", Intern("s3://b/k")), snapshot=snapshot_of("one"))
    (stored,) = set(setup.assoc.rows.values())
    data = (await setup.repository.read_many([stored]))[stored]
    assert isinstance(data, bytes)
    (file,) = decode_fileset(data).all_files()
    assert file.assertions == blob("one")


async def test_a_cached_result_that_contradicts_its_inputs_is_a_miss(setup: Setup) -> None:
    node = an_exec("a", Intern("s3://b/k"))
    await setup.run(node, snapshot=snapshot_of("one"))
    (stored,) = set(setup.assoc.rows.values())
    await setup.run(node, snapshot=snapshot_of("one"), bottom_up=True)
    assert setup.shell.ran == []
    for key in cache_keys(node, [await snapshot_of("two")("s3://b/k")]):
        setup.assoc.rows[Kind.FILESET_V2, key] = stored
    await setup.run(node, snapshot=snapshot_of("two"), bottom_up=True)
    assert setup.shell.ran == ["a"]
    assert any("assertions consistent: conflict for" in text for text in setup.report.texts("debug"))


@pytest.mark.parametrize(("now", "ran"), [("one", []), ("two", ["a"]), (None, ["a"])])
async def test_exact_compares_with_what_is_so_now(setup: Setup, now: str | None, ran: list[str]) -> None:
    node = an_exec("a", Intern("s3://b/k"))
    await setup.run(node, snapshot=snapshot_of("one"))

    async def current(key: AssertionKey) -> Assertions:
        if now is None:
            raise ReflowError(ErrorKind.NOT_EXIST, "stat", key.subject)
        return blob(now)

    await setup.run(node, snapshot=snapshot_of(now or "two"), current_assertions=current)
    assert setup.shell.ran == ran


async def test_exact_asks_once_for_each_source(setup: Setup) -> None:
    nodes: list[Flow] = [an_exec(name, Intern("s3://b/k")) for name in "abc"]
    for node in nodes:
        await setup.run(node, snapshot=snapshot_of("one"))
    asked: list[AssertionKey] = []

    async def current(key: AssertionKey) -> Assertions:
        asked.append(key)
        return blob("one")

    await setup.run(Merge(nodes), current_assertions=current)
    assert setup.shell.ran == []
    assert asked == [AssertionKey("blob", "s3://b/k")]


async def test_exact_asks_again_when_it_had_no_answer(setup: Setup) -> None:
    nodes: list[Flow] = [an_exec(name, Intern("s3://b/k")) for name in "ab"]
    for node in nodes:
        await setup.run(node, snapshot=snapshot_of("one"))
    answers = iter([ReflowError(ErrorKind.TEMPORARY, "stat"), blob("one")])

    async def current(key: AssertionKey) -> Assertions:
        answer = next(answers)
        if isinstance(answer, ReflowError):
            raise answer
        return answer

    await setup.run(Merge(nodes), snapshot=snapshot_of("one"), current_assertions=current)
    assert any("refresh assertions" in text for text in setup.report.texts("debug"))
    assert setup.shell.ran == []


async def test_never_asks_nobody_and_takes_what_is_there(setup: Setup) -> None:
    node = an_exec("a", Intern("s3://b/k"))
    await setup.run(node, snapshot=snapshot_of("one"))
    await setup.run(node, snapshot=snapshot_of("two"))
    assert setup.shell.ran == []


async def test_two_states_of_the_world_are_a_temporary_error(setup: Setup) -> None:
    etags = iter(["one", "two"])

    async def snapshot(url: str) -> Fileset:
        etag = next(etags)
        return Fileset.of_file(File(size=1, source=url, etag=etag, assertions=blob(etag)))

    outcome = await setup.run(Merge([Intern("s3://b/k"), Intern("s3://b/k/")]), snapshot=snapshot)
    assert kind_of(outcome.error) is ErrorKind.TEMPORARY
    assert "conflict for" in str(outcome.error)
