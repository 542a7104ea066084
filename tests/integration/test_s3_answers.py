"""What S3's answers mean, and what is done when they are lost: a real server behind a proxy with a plan."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import boto3
import pytest

from reflow.aws.session import AwsSession
from reflow.blob import Bucket
from reflow.blob.s3part import READ_WHOLE, SMALLEST_PART
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from tests import servers
from tests.buckets import DATA_PATHS, Setting, s3_setting
from tests.faultproxy import Fault, FaultProxy, Message, error_answer, fault_proxy, xml_answer

pytestmark = pytest.mark.s3

LARGE = bytes(range(256)) * ((2 * SMALLEST_PART) // 256)
CREATE, COMPLETE, ABORT, PART = r"POST .*\?uploads$", r"POST .*key\?$", r"DELETE .*\?$", r"PUT .*partNumber"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(servers.S3, 0) as (proxy, url):
        servers.use(monkeypatch, s3=url)
        yield proxy


@pytest.fixture(params=DATA_PATHS)
def setting(proxy: FaultProxy, request: pytest.FixtureRequest) -> Iterator[Setting]:
    with s3_setting(AwsSession(), DATA_PATHS[request.param]) as setting:
        yield setting
        proxy.plan = lambda what, count: None


@pytest.fixture
async def bucket(setting: Setting) -> AsyncIterator[Bucket]:
    yield await setting.store.bucket(setting.names[0])
    await setting.store.close()


@pytest.fixture
def large(tmp_path: Path) -> str:
    (tmp_path / "large").write_bytes(LARGE)
    return str(tmp_path / "large")


Plan = Callable[[str, int], Fault | Message | None]


def first(pattern: str, happens: Fault | Message, times: int = 1) -> Plan:
    """What happens to requests like these, the first times that one is made."""
    return lambda what, count: happens if count <= times and re.search(pattern, what) else None


def count(proxy: FaultProxy, pattern: str) -> int:
    return sum(count for what, count in proxy.asked.items() if re.search(pattern, what))


LOST = [Fault.CUT_AFTER, Fault.INTERNAL_AFTER, Fault.SHORT_ANSWER]


# Answers that are lost.


@pytest.mark.parametrize("fault", LOST[:2])
async def test_a_put_that_must_not_replace_knows_what_it_did(
    bucket: Bucket, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.plan = first("PUT .*/key$", fault)
    await bucket.put("key", b"mine", if_absent=True)
    assert await bucket.read("key") == b"mine"
    with pytest.raises(ReflowError) as caught:
        await bucket.put("key", b"mine", if_absent=True)
    assert caught.value.kind is Kind.PRECONDITION


async def test_a_put_that_must_not_replace_knows_what_another_did(bucket: Bucket, proxy: FaultProxy) -> None:
    await bucket.put("key", b"another's")
    proxy.asked.clear()
    proxy.plan = first("PUT .*/key$", Fault.CUT_AFTER)
    with pytest.raises(ReflowError) as caught:
        await bucket.put("key", b"mine", if_absent=True)
    assert caught.value.kind is Kind.PRECONDITION
    assert await bucket.read("key") == b"another's"


@pytest.mark.parametrize("fault", LOST)
async def test_an_upload_that_was_begun_unheard_is_not_left(
    bucket: Bucket, setting: Setting, proxy: FaultProxy, large: str, fault: Fault
) -> None:
    proxy.plan = first(CREATE, fault, times=2)
    await bucket.upload("key", large)
    assert setting.uploads() == []
    assert await bucket.read("key") == LARGE


async def test_an_upload_of_somebody_else_is_left_alone(
    bucket: Bucket, setting: Setting, proxy: FaultProxy, large: str
) -> None:
    target = {"Bucket": setting.names[0], "Key": "key"}
    other = setting.client.create_multipart_upload(**target)["UploadId"]
    part = {"PartNumber": 1, "Body": b"theirs", "UploadId": other}
    setting.client.upload_part(**target, **part)
    proxy.asked.clear()
    proxy.plan = first(CREATE, Fault.CUT_AFTER)
    await bucket.upload("key", large)
    assert setting.uploads() == ["key"]
    assert len(setting.client.list_parts(**target, UploadId=other)["Parts"]) == 1


@pytest.mark.parametrize("fault", [*LOST, Fault.DELAY])
async def test_an_upload_that_is_cancelled_while_it_begins(
    bucket: Bucket, setting: Setting, proxy: FaultProxy, large: str, fault: Fault
) -> None:
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def plan(what: str, count: int) -> Fault | None:
        if re.search(CREATE, what):
            loop.call_soon_threadsafe(begun.set)
            return fault
        return None

    proxy.plan = plan
    work = asyncio.create_task(bucket.upload("key", large))
    await begun.wait()
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    assert setting.uploads() == []
    assert count(proxy, PART) == 0


@pytest.mark.parametrize("fault", LOST)
async def test_an_upload_whose_end_was_not_heard_is_there(
    bucket: Bucket, setting: Setting, proxy: FaultProxy, large: str, fault: Fault
) -> None:
    proxy.plan = first(COMPLETE, fault, times=9)
    await bucket.upload("key", large)
    assert count(proxy, COMPLETE) == 1
    assert await bucket.read("key") == LARGE
    assert setting.uploads() == []


async def test_an_upload_that_somebody_removed_is_not_waited_for(
    bucket: Bucket, setting: Setting, proxy: FaultProxy, large: str
) -> None:
    proxy.plan = lambda what, count: error_answer(404, "NoSuchUpload") if re.search(COMPLETE, what) else None
    with pytest.raises(ReflowError, match="NoSuchUpload"):
        await bucket.upload("key", large)
    assert count(proxy, COMPLETE) == 1
    assert setting.uploads() == []


async def test_no_part_is_sent_once_an_upload_is_removed(
    bucket: Bucket, setting: Setting, proxy: FaultProxy, large: str
) -> None:
    """The second part is refused at once while the first is still on its way."""

    def plan(what: str, count: int) -> Fault | Message | None:
        if "partNumber=1" in what:
            return Fault.DELAY
        return error_answer(403, "AccessDenied") if "partNumber=2" in what else None

    proxy.plan = plan
    with pytest.raises(ReflowError) as caught:
        await bucket.upload("key", large)
    assert caught.value.kind is Kind.NOT_ALLOWED
    assert setting.uploads() == []
    removed = next(number for number, event in enumerate(proxy.events) if event.startswith("> DELETE"))
    assert not any("partNumber" in event for event in proxy.events[removed:])
    assert any(event.startswith("> PUT") and "partNumber=2" in event for event in proxy.events)


async def test_a_copy_that_was_not_heard_of_is_made_again(bucket: Bucket, proxy: FaultProxy) -> None:
    await bucket.put("from", b"data")
    proxy.plan = first("PUT .*/to$", Fault.SHORT_ANSWER)
    await bucket.copy_from(bucket, "from", "to")
    assert await bucket.read("to") == b"data"


@pytest.mark.parametrize(
    "pattern", ["list-type=2", r"POST .*\?delete", "PUT .*/copy", "PUT .*partNumber", CREATE]
)
async def test_an_empty_answer_is_none(
    bucket: Bucket, setting: Setting, proxy: FaultProxy, pattern: str, large: str
) -> None:
    await bucket.put("a", b"x")
    await bucket.upload("large", large)
    proxy.asked.clear()
    proxy.plan = first(pattern, xml_answer(200, ""))
    assert [key async for key, _ in bucket.scan("")] == ["a", "large"]
    await bucket.copy_from(bucket, "a", "copy")
    await bucket.copy_from(bucket, "large", "copied-in-parts")
    await bucket.delete(["a"])
    assert await bucket.read("copied-in-parts") == LARGE
    assert [key async for key, _ in bucket.scan("")] == ["copied-in-parts", "copy", "large"]
    assert setting.uploads() == []


# Refusals.


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ThrottledException"),
        (400, "RequestThrottled"),
        (400, "ThrottlingException"),
        (429, "TooManyRequests"),
        (429, "Whatever"),
        (503, "SlowDown"),
        (503, "Whatever"),
        (500, "InternalError"),
        (409, "ConditionalRequestConflict"),
        (409, "OperationAborted"),
        (400, "RequestTimeout"),
    ],
)
async def test_what_passes_is_tried_again(bucket: Bucket, proxy: FaultProxy, status: int, code: str) -> None:
    proxy.plan = first("PUT .*/key$", error_answer(status, code), times=2)
    await bucket.put("key", b"data")
    assert count(proxy, "PUT .*/key$") == 3
    proxy.plan = first("GET .*/key", error_answer(status, code), times=2)
    assert await bucket.read("key") == b"data"


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "InvalidArgument")])
async def test_what_does_not_pass_is_not_tried_again(
    bucket: Bucket, proxy: FaultProxy, status: int, code: str
) -> None:
    proxy.plan = first("PUT .*/key$", error_answer(status, code), times=99)
    with pytest.raises(ReflowError, match=f"{code}: by the proxy"):
        await bucket.put("key", b"data")
    assert count(proxy, "PUT .*/key$") == 1


async def test_a_server_that_is_gone_is_not_asked_for_ever(
    bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_wait(delay: float) -> None:
        pass

    monkeypatch.setattr("reflow.aws.retry.asyncio.sleep", no_wait)
    proxy.plan = first("key", error_answer(503, "SlowDown"), times=99)
    with pytest.raises(ReflowError, match="SlowDown") as caught:
        await bucket.put("key", b"data")
    assert caught.value.kind is Kind.RESOURCES_EXHAUSTED
    assert count(proxy, "PUT .*/key$") == 9


async def test_a_bare_400_gets_its_reason(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.plan = lambda what, count: error_answer(400, "InvalidSomething", is_head=what.startswith("HEAD"))
    with pytest.raises(ReflowError, match="InvalidSomething: by the proxy"):
        await bucket.file("key")


@pytest.mark.parametrize("data", [b"data", b""])
async def test_a_bare_400_without_a_reason_passes(bucket: Bucket, proxy: FaultProxy, data: bytes) -> None:
    await bucket.put("key", data)
    proxy.plan = first("HEAD", error_answer(400, "", is_head=True), times=2)
    assert (await bucket.file("key")).size == len(data)


async def test_keys_that_cannot_be_deleted_now_are_deleted_later(bucket: Bucket, proxy: FaultProxy) -> None:
    for key in ("a", "b", "c"):
        await bucket.put(key, b"x")
    body = (
        "<DeleteResult><Deleted><Key>a</Key></Deleted><Deleted><Key>b</Key></Deleted>"
        "<Error><Key>c</Key><Code>InternalError</Code><Message>not now</Message></Error></DeleteResult>"
    )
    proxy.plan = first("POST .*delete", xml_answer(200, body))
    await bucket.delete(["a", "b", "c"])
    assert count(proxy, "POST .*delete") == 2
    assert [key async for key, _ in bucket.scan("")] == ["a", "b"]


async def test_keys_that_can_never_be_deleted_are_named(bucket: Bucket, proxy: FaultProxy) -> None:
    body = (
        "<DeleteResult><Deleted><Key>a</Key></Deleted>"
        "<Error><Key>b</Key><Code>AccessDenied</Code><Message>never</Message></Error></DeleteResult>"
    )
    proxy.plan = first("POST .*delete", xml_answer(200, body), times=99)
    with pytest.raises(ReflowError, match=r"/b: access denied: AccessDenied: never") as caught:
        await bucket.delete(["a", "b"])
    assert caught.value.kind is Kind.NOT_ALLOWED
    assert count(proxy, "POST .*delete") == 1


async def test_a_bucket_that_is_elsewhere_is_said_to_be(bucket: Bucket, proxy: FaultProxy) -> None:
    region = ("x-amz-bucket-region", "eu-central-1")
    proxy.plan = first("PUT .*/key$", error_answer(301, "PermanentRedirect", region), times=99)
    with pytest.raises(ReflowError) as caught:
        await bucket.put("key", b"data")
    assert caught.value.kind in (Kind.INVALID, Kind.NET, Kind.NOT_ALLOWED)
    assert "eu-central-1" in str(caught.value)


# Bytes that are damaged.


@pytest.mark.parametrize("fault", [Fault.CORRUPT_ANSWER, Fault.SHORT_ANSWER, Fault.CUT_ANSWER])
@pytest.mark.parametrize("size", [1000, READ_WHOLE + 1])
async def test_damaged_bytes_are_fetched_again(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path, fault: Fault, size: int
) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    await bucket.put("key", data)
    proxy.plan = first("GET .*/key", fault)
    await bucket.download("key", str(tmp_path / "out"), size=len(data))
    assert (tmp_path / "out").read_bytes() == data
    assert proxy.done[fault] > 0
    proxy.asked.clear()
    assert await bucket.read("key") == data


async def test_an_object_that_becomes_shorter_between_two_tries(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path
) -> None:
    await bucket.put("key", b"a long object")
    straight = boto3.client("s3", endpoint_url=servers.S3)

    def plan(what: str, count: int) -> Fault | None:
        if what.startswith("GET") and count == 2:
            straight.put_object(Bucket=what.split("/")[1], Key="key", Body=b"short")
        return Fault.CORRUPT_ANSWER if what.startswith("GET") and count == 1 else None

    proxy.plan = plan
    assert await bucket.download("key", str(tmp_path / "out"), size=13) == Digest.of(b"short")
    assert (tmp_path / "out").read_bytes() == b"short"
    straight.close()


async def test_bytes_that_are_damaged_each_time_are_an_error(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path
) -> None:
    await bucket.put("key", b"some data")
    proxy.plan = first("GET .*/key", Fault.CORRUPT_ANSWER, times=99)
    for call in (bucket.read("key"), bucket.download("key", str(tmp_path / "out"), size=9)):
        with pytest.raises(ReflowError, match="damaged on its way") as caught:
            await call
        assert caught.value.kind is Kind.INTEGRITY
    with pytest.raises(ReflowError, match="damaged on its way"):
        async for _ in bucket.get("key"):
            pass
    assert count(proxy, "GET .*/key") == 7
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [1000, SMALLEST_PART + 1])
async def test_bytes_that_are_damaged_on_their_way_out_are_sent_again(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path, size: int
) -> None:
    (tmp_path / "in").write_bytes(LARGE[:size])
    proxy.plan = first("PUT .*/key", Fault.CORRUPT_REQUEST)
    await bucket.upload("key", str(tmp_path / "in"))
    assert proxy.done[Fault.CORRUPT_REQUEST] > 0
    assert await bucket.read("key") == LARGE[:size]
