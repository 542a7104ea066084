"""A shared repository with this machine's objects in front, and things that programs name by URL."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from reflow.blob import Bucket
from reflow.core.assertion import AssertionKey
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.flow.data import LocalFile
from reflow.repository.filerepo import FileRepository
from reflow.repository.inputs import LocalInputs
from reflow.repository.layered import LayeredRepository
from reflow.repository.localstate import local_state
from reflow.repository.references import References, parse_url
from tests.dictbucket import DictBucket, Stored, blob_repository


@pytest.fixture
def bucket() -> DictBucket:
    return DictBucket("cache")


@pytest.fixture
def layered(bucket: DictBucket, tmp_path: Path) -> LayeredRepository:
    return LayeredRepository(FileRepository(str(tmp_path / "r")), blob_repository(bucket))


@pytest.fixture
def sources() -> dict[str, DictBucket]:
    return {"in": DictBucket("in"), "out": DictBucket("out")}


@pytest.fixture
def inputs(layered: LayeredRepository, tmp_path: Path) -> LocalInputs:
    return LocalInputs(local_state(str(tmp_path / "local.db")), layered.local)


@pytest.fixture
def references(
    layered: LayeredRepository, bucket: DictBucket, sources: dict[str, DictBucket], inputs: LocalInputs
) -> References:
    async def open_bucket(scheme: str, name: str) -> Bucket:
        if scheme != "s3":
            raise ReflowError(Kind.NOT_SUPPORTED, cause=f"no implementation for scheme {scheme}")
        return {"cache": bucket, **sources}[name]

    return References(open_bucket, layered, inputs)


def output(layered: LayeredRepository, tmp_path: Path, data: bytes) -> File:
    """What an exec wrote: it is on this machine only."""
    path = tmp_path / "out"
    path.write_bytes(data)
    return layered.install(str(path))


def key_of(data: bytes) -> str:
    return f"objects/{Digest(sha256(data).digest())}"


async def test_outputs_are_uploaded_with_their_hash_when_somebody_asks_for_them(
    layered: LayeredRepository, bucket: DictBucket, tmp_path: Path
) -> None:
    file = output(layered, tmp_path, b"one")
    assert file.id is not None
    assert bucket.objects == {}
    assert await layered.missing({file.id: 3}) == set()
    assert bucket.objects == {key_of(b"one"): Stored(b"one", file.id)}


async def test_values_are_stored_without_a_hash_in_their_metadata(
    layered: LayeredRepository, bucket: DictBucket
) -> None:
    await layered.put_bytes_many([b"value"])
    assert bucket.objects == {key_of(b"value"): Stored(b"value", None)}


async def test_files_of_users_are_uploaded_once_and_not_kept(
    layered: LayeredRepository, bucket: DictBucket, tmp_path: Path
) -> None:
    path = tmp_path / "mine"
    path.write_bytes(b"mine")
    name = Digest.of(b"mine")
    for _ in range(2):
        await layered.share({name: str(path)}, {name: 4})
    assert bucket.objects == {key_of(b"mine"): Stored(b"mine", name)}
    assert bucket.calls == {"file": 1, "upload": 1}
    assert await layered.local.missing([name]) == {name}
    assert os.listdir(tmp_path / "r" / "tmp") == []


async def test_a_file_that_changed_is_not_uploaded_under_its_former_name(
    layered: LayeredRepository, bucket: DictBucket, tmp_path: Path
) -> None:
    path = tmp_path / "mine"
    path.write_bytes(b"mine")
    with pytest.raises(ReflowError, match="changed since it was read") as caught:
        await layered.share({Digest.of(b"mime"): str(path)}, {Digest.of(b"mime"): 4})
    assert caught.value.kind is Kind.INVALID
    assert bucket.objects == {}
    assert os.listdir(tmp_path / "r" / "tmp") == []


async def test_a_user_s_file_is_written_where_an_extern_wants_it(
    references: References, sources: dict[str, DictBucket], inputs: LocalInputs, tmp_path: Path
) -> None:
    path = tmp_path / "mine"
    path.write_bytes(b"mine")
    file = LocalFile(str(path), os.stat(path))
    file.hash()
    inputs.adopt([file])
    await references.extern("s3://out/a", Fileset.of_file(File(file.digest, 4)))
    assert sources["out"].objects == {"a": Stored(b"mine", file.digest)}


async def test_what_is_known_to_be_there_is_not_asked_for_again(
    layered: LayeredRepository, bucket: DictBucket, tmp_path: Path
) -> None:
    file = output(layered, tmp_path, b"one")
    assert file.id is not None
    for _ in range(3):
        await layered.missing({file.id: 3})
    assert bucket.calls == {"file": 1, "upload": 1}


async def test_a_damaged_object_is_not_uploaded(
    layered: LayeredRepository, bucket: DictBucket, tmp_path: Path
) -> None:
    file = output(layered, tmp_path, b"one")
    assert file.id is not None
    path = Path(layered.path(file.id))
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"two")

    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ReflowError) as caught:
        await layered.missing({file.id: 3})
    assert caught.value.kind is Kind.INTEGRITY
    assert bucket.objects == {}


async def test_after_an_outage_the_result_is_still_here(
    layered: LayeredRepository, bucket: DictBucket, tmp_path: Path
) -> None:
    file = output(layered, tmp_path, b"one")
    assert file.id is not None
    bucket.is_down = True
    with pytest.raises(ReflowError):
        await layered.missing({file.id: 3})
    bucket.is_down = False
    assert await layered.missing({file.id: 3}) == set()
    assert key_of(b"one") in bucket.objects


async def test_private_objects_stay_here(
    layered: LayeredRepository, bucket: DictBucket, tmp_path: Path
) -> None:
    layered.keep_private()
    file = output(layered, tmp_path, b"one")
    assert file.id is not None
    await layered.put_bytes_many([b"value"])
    assert await layered.missing({file.id: 3}) == set()
    assert not bucket.calls


async def test_an_object_is_fetched_once_for_all_who_want_it(
    layered: LayeredRepository, bucket: DictBucket
) -> None:
    name = Digest(sha256(b"data").digest())
    bucket.objects[key_of(b"data")] = Stored(b"data", None)
    await layered.fetch([File(name, 4), File(name, 4)])
    await layered.fetch([File(name, 4)])
    assert Path(layered.path(name)).read_bytes() == b"data"
    assert bucket.calls["download"] == 1


async def test_an_object_with_other_contents_than_its_name_says_is_refused(
    layered: LayeredRepository, bucket: DictBucket
) -> None:
    name = Digest(sha256(b"data").digest())
    bucket.objects[key_of(b"data")] = Stored(b"tada", None)
    with pytest.raises(ReflowError) as caught:
        await layered.fetch([File(name, 4)])
    assert caught.value.kind is Kind.INTEGRITY
    assert not Path(layered.path(name)).exists()


@pytest.mark.parametrize("key", ["with blank", "100%", "a%20b", "é/ü", "q?x=1#f"])
async def test_keys_are_used_as_they_are_written(
    references: References, sources: dict[str, DictBucket], key: str
) -> None:
    sources["in"].objects[key] = Stored(b"data", None)
    assert parse_url(f"s3://in/{key}") == ("s3", "in", key)
    found = await references.resolve(await references.snapshot(f"s3://in/{key}"))
    assert found.file().id == sha256(b"data").digest()


async def test_a_reference_becomes_contents_and_keeps_what_it_asserts(
    references: References, sources: dict[str, DictBucket], layered: LayeredRepository
) -> None:
    sources["in"].objects["d/x"] = Stored(b"data", None)
    reference = (await references.snapshot("s3://in/d/")).files["x"]
    assert reference.id is None
    file = (await references.resolve(Fileset({"x": reference}))).files["x"]
    assert (file.id, file.assertions) == (sha256(b"data").digest(), reference.assertions)
    current = await references.assertions(AssertionKey("blob", "s3://in/d/x"))
    assert current == reference.assertions
    assert "last-modified=2024-03-01 12:34:56 +0000 UTC" in str(current)


async def test_contents_that_are_here_are_not_downloaded(
    references: References, sources: dict[str, DictBucket], layered: LayeredRepository, tmp_path: Path
) -> None:
    file = output(layered, tmp_path, b"data")
    sources["in"].objects["x"] = Stored(b"data", file.id)
    found = await references.intern("s3://in/x")
    assert found.file().id == file.id
    assert sources["in"].calls["download"] == 0


async def test_what_was_interned_asserts_nothing_and_promises_nothing(
    references: References, sources: dict[str, DictBucket]
) -> None:
    await sources["in"].put("x", b"x", content_hash=Digest.of(b"x"))
    file = (await references.intern("s3://in/x")).file()
    assert (file.id, file.content_hash, file.source) == (Digest.of(b"x"), None, "")
    assert not file.assertions


async def test_empty_objects_can_be_interned(references: References, sources: dict[str, DictBucket]) -> None:
    sources["in"].objects["empty"] = Stored(b"", None)
    assert (await references.intern("s3://in/empty")).file().id == sha256(b"").digest()


async def test_objects_go_from_bucket_to_bucket_and_only_when_they_differ(
    references: References, sources: dict[str, DictBucket], layered: LayeredRepository, tmp_path: Path
) -> None:
    file = output(layered, tmp_path, b"one")
    value = Fileset({"a b": file, "c/%": file})
    for _ in range(2):
        await references.extern("s3://out/to/", value)
    out = sources["out"]
    assert out.objects == {"to/a b": Stored(b"one", file.id), "to/c/%": Stored(b"one", file.id)}
    assert (out.calls["copy"], out.calls["upload"]) == (2, 0)


async def test_a_lone_file_is_written_at_the_url_itself(
    references: References, sources: dict[str, DictBucket], layered: LayeredRepository, tmp_path: Path
) -> None:
    file = output(layered, tmp_path, b"one")
    layered.keep_private()
    await references.extern("s3://out/x/", Fileset.of_file(file))
    assert sources["out"].objects == {"x": Stored(b"one", file.id)}
    assert sources["out"].calls["upload"] == 1


async def test_other_schemes_are_named(references: References) -> None:
    with pytest.raises(ReflowError) as caught:
        await references.snapshot("gs://b/k")
    assert "no implementation for scheme gs" in str(caught.value)
