"""What every store of buckets promises: in memory, and S3 by each data path on each server there is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import cast

import pytest

from reflow.aws.session import AwsSession
from reflow.blob import Bucket
from reflow.blob.s3part import READ_PART, READ_WHOLE, SMALLEST_PART
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from tests import servers
from tests.buckets import CUTS, DATA_PATHS, Setting, memory_setting, s3_setting

SERVERS = {"ceph": (servers.S3, pytest.mark.s3), "moto": (servers.MOTO, pytest.mark.aws)}

IMPLEMENTATIONS = [
    pytest.param(("", ""), id="memory"),
    *[
        pytest.param((server, path), id=f"{server}-{path}", marks=mark)
        for server, (_, mark) in SERVERS.items()
        for path in DATA_PATHS
    ],
]

RANDOM = random.Random(7).randbytes(READ_WHOLE + READ_PART + 3)
OTHER = Digest.of(b"something else")

KEYS = [
    "plain",
    "a b",
    "a%20b",
    "a+b",
    "a%2Bb",
    "100%.txt",
    " lead and end ",
    "é/ü/日本/😀",
    "e\u0301",
    "/leading",
    "//two",
    "a//b",
    "a/./b",
    "../up",
    "a/../b",
    "ends/",
    "q\"'`<>&",
    "?x=1&y=2#z",
    "a\\b|{c}^[d]~",
    "*:;,=@!$()",
    "tab\tin",
    "x" * 1024,
]
LINES = ["new\nline", "return\rline", "\x01\x7f"]
"""Keys that moto's server cannot have."""


@cache
def session_at(server: str) -> AwsSession:
    """One for all tests of a server: to make one takes longer than most of them."""
    return AwsSession()


@pytest.fixture(params=IMPLEMENTATIONS)
def setting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    server, path = request.param
    if not server:
        yield memory_setting()
        return
    servers.use(monkeypatch, s3=SERVERS[server][0])
    with s3_setting(session_at(server), DATA_PATHS[path]) as setting:
        yield setting


@pytest.fixture
async def bucket(setting: Setting) -> AsyncIterator[Bucket]:
    yield await setting.store.bucket(setting.names[0])
    await setting.store.close()


@pytest.fixture
async def other(setting: Setting, bucket: Bucket) -> Bucket:
    return await setting.store.bucket(setting.names[1])


async def streamed(bucket: Bucket, key: str, etag: str = "") -> bytes:
    chunks = [chunk async for chunk in bucket.get(key, etag=etag)]
    assert max(map(len, chunks), default=0) <= 1 << 20
    return b"".join(chunks)


async def listed(bucket: Bucket, prefix: str = "") -> list[str]:
    return [key async for key, _ in bucket.scan(prefix)]


# What is stored can be had.


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        SMALLEST_PART - 1,
        SMALLEST_PART,
        SMALLEST_PART + 1,
        READ_PART,
        2 * SMALLEST_PART,
        READ_WHOLE,
        READ_WHOLE + 1,
        READ_WHOLE + READ_PART + 3,
    ],
)
async def test_a_file_that_is_uploaded_can_be_had(bucket: Bucket, tmp_path: Path, size: int) -> None:
    data = RANDOM[:size]
    (tmp_path / "in").write_bytes(data)
    sent: list[int] = []
    await bucket.upload("key", str(tmp_path / "in"), content_hash=Digest.of(data), observe=sent.append)
    file = await bucket.file("key")
    assert (file.size, file.content_hash, file.source) == (size, Digest.of(data), f"{bucket.location}key")
    assert await bucket.read("key", etag=file.etag) == data
    assert await streamed(bucket, "key", file.etag) == data
    received: list[int] = []
    path = str(tmp_path / "out")
    digest = await bucket.download("key", path, size=size, etag=file.etag, observe=received.append)
    assert digest == Digest.of(data)
    assert Path(path).read_bytes() == data
    assert (sum(sent), sum(received)) == (size, size)


@pytest.mark.parametrize("told", [0, 1, READ_WHOLE + 1])
@pytest.mark.parametrize("size", [0, 10, READ_WHOLE + 1])
async def test_a_size_that_is_wrong_harms_nobody(
    bucket: Bucket, tmp_path: Path, told: int, size: int
) -> None:
    await bucket.put("key", RANDOM[:size])
    digest = await bucket.download("key", str(tmp_path / "out"), size=told)
    assert digest == Digest.of(RANDOM[:size])
    assert (tmp_path / "out").stat().st_size == size


@pytest.mark.parametrize("content_hash", [None, Digest.of(b"one")])
async def test_metadata_are_what_was_given(bucket: Bucket, content_hash: Digest | None) -> None:
    await bucket.put("key", b"one", content_hash=content_hash)
    file = await bucket.file("key")
    assert file.content_hash == content_hash
    assert file.etag.startswith('"')
    assert file.last_modified is not None
    assert file.last_modified.tzinfo is not None
    rows = [row async for row in bucket.scan("")]
    assert [(key, row.content_hash, row.etag) for key, row in rows] == [("key", None, file.etag)]
    rows = [row async for row in bucket.scan("", has_metadata=True)]
    assert rows[0][1].content_hash == content_hash


async def test_an_object_is_replaced_whole(bucket: Bucket) -> None:
    await bucket.put("key", b"a longer one", content_hash=Digest.of(b"a longer one"))
    await bucket.put("key", b"short")
    assert await bucket.read("key") == b"short"
    assert (await bucket.file("key")).content_hash is None


async def test_many_calls_at_the_same_time(bucket: Bucket) -> None:
    keys = [f"key-{number:03}" for number in range(100)]
    await asyncio.gather(*[bucket.put(key, key.encode()) for key in keys])
    assert await asyncio.gather(*[bucket.read(key) for key in keys]) == [key.encode() for key in keys]
    assert await listed(bucket) == keys


# Keys.


async def test_keys_are_used_as_they_are_written(
    bucket: Bucket, other: Bucket, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    keys = KEYS if "moto" in request.node.callspec.id else KEYS + LINES
    for key in keys:
        await bucket.put(key, key.encode())
    assert await listed(bucket) == sorted(keys, key=str.encode)
    for number, key in enumerate(keys):
        assert await bucket.read(key) == key.encode()
        assert (await bucket.file(key)).source == f"{bucket.location}{key}"
        assert await streamed(bucket, key) == key.encode()
        digest = await bucket.download(key, str(tmp_path / str(number)), size=len(key.encode()))
        assert digest == Digest.of(key.encode())
        await other.copy_from(bucket, key, key)
    assert await listed(other) == sorted(keys, key=str.encode)
    assert [await other.read(key) for key in keys] == [key.encode() for key in keys]
    await bucket.delete(keys[::2])
    assert set(await listed(bucket)) == set(keys[1::2])


@pytest.mark.parametrize("key", ["a b", "é+%20/😀", "//x", "q\"'&<>"])
async def test_large_objects_have_any_key_too(bucket: Bucket, tmp_path: Path, key: str) -> None:
    data = RANDOM[: SMALLEST_PART + 1]
    (tmp_path / "in").write_bytes(data)
    await bucket.upload(key, str(tmp_path / "in"))
    assert await bucket.read(key) == data
    assert await listed(bucket, key) == [key]


@pytest.mark.parametrize("prefix", ["a b/", "a+b/", "a%20b/", "é/", "/", "//"])
async def test_prefixes_are_used_as_they_are_written(bucket: Bucket, prefix: str) -> None:
    for each in ("a b/", "a+b/", "a%20b/", "é/", "/", "//", "e/"):
        await bucket.put(f"{each}x", each.encode())
    found = await listed(bucket, prefix)
    assert found == (["//x", "/x"] if prefix == "/" else [f"{prefix}x"])


@pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 600, "not \udcff utf-8"])
async def test_what_can_be_no_key_is_said_so(bucket: Bucket, tmp_path: Path, key: str) -> None:
    (tmp_path / "in").write_bytes(b"data")
    calls = [
        bucket.put(key, b"data"),
        bucket.upload(key, str(tmp_path / "in")),
        bucket.read(key),
        bucket.file(key),
        bucket.download(key, str(tmp_path / "out"), size=4),
        bucket.delete([key]),
        streamed(bucket, key),
    ]
    for call in calls:
        with pytest.raises(ReflowError) as caught:
            await call
        assert caught.value.kind is Kind.INVALID
        assert "key" in str(caught.value)
        str(caught.value).encode()
    assert await listed(bucket) == []


# What is not there.


async def test_a_bucket_that_is_not_there(setting: Setting) -> None:
    with pytest.raises(ReflowError) as caught:
        await setting.store.bucket("blob-nobody-has-made-this")
    assert caught.value.kind is Kind.NOT_EXIST
    await setting.store.close()


async def test_a_key_that_is_not_there(bucket: Bucket, other: Bucket, tmp_path: Path) -> None:
    calls = [
        bucket.file("none"),
        bucket.read("none"),
        bucket.download("none", str(tmp_path / "small"), size=1),
        bucket.download("none", str(tmp_path / "large"), size=READ_WHOLE + 1),
        bucket.snapshot("none"),
        other.copy_from(bucket, "none", "copy"),
        streamed(bucket, "none"),
    ]
    for call in calls:
        with pytest.raises(ReflowError) as caught:
            await call
        assert caught.value.kind is Kind.NOT_EXIST
    assert list(tmp_path.iterdir()) == []
    assert await listed(other) == []


# Conditions.


async def test_a_put_that_must_not_replace(bucket: Bucket) -> None:
    await bucket.put("key", b"first", if_absent=True)
    for data in (b"first", b"second"):
        with pytest.raises(ReflowError) as caught:
            await bucket.put("key", data, if_absent=True)
        assert caught.value.kind is Kind.PRECONDITION
    assert await bucket.read("key") == b"first"
    await bucket.delete(["key"])
    await bucket.put("key", b"second", if_absent=True)


async def test_of_many_that_must_not_replace_one_wins(bucket: Bucket) -> None:
    values = [f"value {number}".encode() for number in range(16)]
    done = await asyncio.gather(
        *[bucket.put("key", value, if_absent=True) for value in values], return_exceptions=True
    )
    winners = [value for value, result in zip(values, done, strict=True) if result is None]
    assert winners == [await bucket.read("key")]
    losers = [result for result in done if isinstance(result, ReflowError)]
    assert {loser.kind for loser in losers} == {Kind.PRECONDITION}


@pytest.mark.parametrize("size", [3, READ_WHOLE + 1])
async def test_another_version_is_not_what_was_asked_for(bucket: Bucket, tmp_path: Path, size: int) -> None:
    await bucket.put("key", RANDOM[:size])
    etag = (await bucket.file("key")).etag
    await bucket.put("key", RANDOM[1 : size + 1])
    calls = [
        bucket.read("key", etag=etag),
        bucket.download("key", str(tmp_path / "out"), size=size, etag=etag),
        streamed(bucket, "key", etag),
    ]
    for call in calls:
        with pytest.raises(ReflowError) as caught:
            await call
        assert caught.value.kind is Kind.PRECONDITION
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [3, SMALLEST_PART + 1, READ_WHOLE + 1])
async def test_metadata_that_promise_something_else(bucket: Bucket, tmp_path: Path, size: int) -> None:
    (tmp_path / "in").write_bytes(RANDOM[:size])
    await bucket.upload("key", str(tmp_path / "in"), content_hash=OTHER)
    with pytest.raises(ReflowError, match=f"want {OTHER}") as caught:
        await bucket.download("key", str(tmp_path / "out"), size=size)
    assert caught.value.kind is Kind.INTEGRITY
    assert not (tmp_path / "out").exists()


# Listing.


async def test_lists_are_in_the_order_of_bytes_over_all_pages(bucket: Bucket) -> None:
    keys = ["a", "B", "a/", "a0", "a-", "é", "z", "\uffee", "\U00010000", "~", "a\u0301", "日", "0", "_", " "]
    keys += [f"n/{number}" for number in range(2 * CUTS.listed)]
    for key in random.Random(1).sample(keys, len(keys)):
        await bucket.put(key, b"")
    assert await listed(bucket) == sorted(keys, key=str.encode)
    assert await listed(bucket, "n/") == sorted(key for key in keys if key.startswith("n/"))
    assert await listed(bucket, "none") == []


async def test_a_snapshot_of_a_prefix(bucket: Bucket) -> None:
    for key in ("d/x", "d/y z", "d/sub/%", "d/empty", "d/sub/", "dx", "d"):
        await bucket.put(key, b"" if key == "d/empty" else key.encode(), content_hash=Digest.of(key.encode()))
    fileset = await bucket.snapshot("d/")
    assert sorted(fileset.files) == ["empty", "sub/%", "x", "y z"]
    file = fileset.files["y z"]
    assert (file.id, file.size, file.source) == (None, 5, f"{bucket.location}d/y z")
    assert file.content_hash == Digest.of(b"d/y z")
    assert "etag=" in str(file.assertions)
    assert len((await bucket.snapshot("")).files) == 6
    assert (await bucket.snapshot("none/")).files == {}


async def test_a_snapshot_of_one_object(bucket: Bucket) -> None:
    await bucket.put("x", b"data")
    await bucket.put("xy", b"more")
    await bucket.put("empty", b"")
    fileset = await bucket.snapshot("x")
    assert {path: file.size for path, file in fileset.files.items()} == {".": 4}
    with pytest.raises(ReflowError, match="incomplete metadata") as caught:
        await bucket.snapshot("empty")
    assert caught.value.kind is Kind.INVALID


# Copies.


@pytest.mark.parametrize("promised", [None, Digest.of(RANDOM[:10])])
async def test_small_copies_have_the_metadata_of_their_source(
    bucket: Bucket, other: Bucket, promised: Digest | None
) -> None:
    await bucket.put("from", RANDOM[:10], content_hash=promised)
    await other.copy_from(bucket, "from", "to", content_hash=OTHER)
    assert await other.read("to") == RANDOM[:10]
    assert (await other.file("to")).content_hash == promised


@pytest.mark.parametrize("promised", [True, False])
@pytest.mark.parametrize("size", [CUTS.copied_whole + 1, 2 * CUTS.copied_part, 2 * CUTS.copied_part + 1])
async def test_large_copies_have_a_content_hash(
    setting: Setting, bucket: Bucket, other: Bucket, tmp_path: Path, size: int, promised: bool
) -> None:
    data = RANDOM[:size]
    (tmp_path / "in").write_bytes(data)
    source = "//a b+é"  # Ceph unescapes % of such sources twice
    await bucket.upload(source, str(tmp_path / "in"), content_hash=Digest.of(data) if promised else None)
    given = OTHER if promised else Digest.of(data)
    await other.copy_from(bucket, source, "to", content_hash=given)
    assert (await other.file("to")).content_hash == Digest.of(data)
    assert await other.download("to", str(tmp_path / "out"), size=size) == Digest.of(data)
    assert setting.uploads() == []


async def test_copies_within_a_bucket(bucket: Bucket) -> None:
    await bucket.put("empty", b"")
    await bucket.copy_from(bucket, "empty", "copy")
    assert await bucket.read("copy") == b""


# Deletions.


async def test_deletions(bucket: Bucket) -> None:
    keys = [f"k{number:02}" for number in range(3 * CUTS.deleted + 1)]
    for key in keys:
        await bucket.put(key, b"x")
    await bucket.delete([*keys[:-1], "absent", keys[0]])
    assert await listed(bucket) == keys[-1:]
    await bucket.delete([])
    await bucket.delete(["absent"])


# Endings.


async def test_a_file_that_is_there_stays(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    for size in (3, READ_WHOLE + 1):
        await bucket.put("key", RANDOM[:size])
        with pytest.raises(ReflowError):
            await bucket.download("key", str(tmp_path / "out"), size=size)
    assert (tmp_path / "out").read_bytes() == b"mine"


async def test_a_download_to_nowhere(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.put("key", b"data")
    with pytest.raises(ReflowError) as caught:
        await bucket.download("key", str(tmp_path / "none" / "out"), size=4)
    assert caught.value.kind is Kind.NOT_EXIST


@pytest.mark.parametrize("size", [10, SMALLEST_PART + 1])
async def test_a_file_that_is_gone_is_not_uploaded(
    setting: Setting, bucket: Bucket, tmp_path: Path, size: int
) -> None:
    with pytest.raises(ReflowError) as caught:
        await bucket.upload("key", str(tmp_path / "none"))
    assert caught.value.kind is Kind.NOT_EXIST
    assert await listed(bucket) == []
    assert setting.uploads() == []


async def test_an_upload_that_is_cancelled_leaves_nothing(
    setting: Setting, bucket: Bucket, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(RANDOM)
    for number in range(12):
        work = asyncio.create_task(bucket.upload("key", str(tmp_path / "in")))
        done, _ = await asyncio.wait([work], timeout=0.01 * number)
        work.cancel()
        await asyncio.wait([work])
        if not done and work.cancelled():
            assert await listed(bucket) in ([], ["key"])
        assert setting.uploads() == []
        if await listed(bucket):
            assert await bucket.read("key") == RANDOM
            await bucket.delete(["key"])


async def test_an_upload_that_is_cancelled_among_its_parts(
    setting: Setting, bucket: Bucket, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(RANDOM)
    tasks: list[asyncio.Task[None]] = []
    upload = bucket.upload("key", str(tmp_path / "in"), observe=lambda size: tasks[0].cancel() and None)
    tasks.append(asyncio.create_task(upload))
    await asyncio.wait(tasks)
    assert setting.uploads() == []
    if setting.client is not None:
        assert tasks[0].cancelled()
        assert await listed(bucket) == []


@pytest.mark.parametrize("size", [1 << 20, READ_WHOLE + READ_PART])
async def test_a_download_that_is_cancelled_leaves_nothing(bucket: Bucket, tmp_path: Path, size: int) -> None:
    await bucket.put("key", RANDOM[:size])
    for number in range(12):
        path = tmp_path / f"out-{number}"
        work = asyncio.create_task(bucket.download("key", str(path), size=size))
        await asyncio.wait([work], timeout=0.005 * number)
        work.cancel()
        await asyncio.wait([work])
        assert path.exists() == (not work.cancelled())
        if path.exists():
            assert path.read_bytes() == RANDOM[:size]


async def test_a_stream_that_is_left_leaves_no_task(bucket: Bucket) -> None:
    await bucket.put("key", RANDOM)
    before = asyncio.all_tasks()
    stream = cast("AsyncGenerator[bytes]", bucket.get("key"))
    assert await anext(stream) == RANDOM[: 1 << 20]
    await stream.aclose()
    assert asyncio.all_tasks() == before
