"""Our own requests to S3, with servers that do what no real one can be made to do."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reflow.aws.httpconnection import Origin
from reflow.aws.session import AwsSession
from reflow.aws.sigv4 import Access, Scope
from reflow.blob import direct
from reflow.blob.datapath import FilePart, Received, Target, Write
from reflow.blob.direct import DirectPath, Route
from reflow.blob.s3 import S3Store
from reflow.blob.s3part import Part
from reflow.core.errors import Kind, ReflowError
from reflow.disk.blocking import Blocking
from reflow.disk.filesystem import translate_error
from tests import servers
from tests.scripted import Reply, Scripted, ok, scripted
from tests.waiting import until

TLS = Path(__file__).parent.parent / "data" / "tls"
TARGET = Target("b", "a key/ü")
HUGE = b"x" * (8 << 20)


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    threads = Blocking("test", 4)
    yield threads
    threads.close()


@dataclass
class Opener:
    blocking: Blocking
    opened: list[DirectPath] = field(default_factory=list)

    def __call__(
        self, server: Scripted, access: Access | None = None, tls: ssl.SSLContext | None = None
    ) -> DirectPath:
        """A data path to a server."""
        origin = Origin("127.0.0.1", server.port, tls)
        route = Route(origin, f"127.0.0.1:{server.port}", "/b/", Scope("us-west-2", "s3"), lambda: access)
        self.opened.append(DirectPath(route, "b", self.blocking))
        return self.opened[-1]


@pytest.fixture
def path_to(blocking: Blocking) -> Iterator[Opener]:
    opener = Opener(blocking)
    yield opener
    for path in opener.opened:
        path.hang_up()


async def kind_of(work: Awaitable[object]) -> Kind:
    with pytest.raises(ReflowError) as caught:
        await work
    return caught.value.kind


def into(descriptor: int) -> Callable[[Received], Write]:
    """What writes an object to a file."""

    def write(data: memoryview, offset: int) -> None:
        try:
            os.pwrite(descriptor, data, offset)
        except OSError as err:
            raise translate_error(err, "test", "file") from err

    return lambda _: write


def headers(request: bytes) -> dict[str, str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


# Connections.


async def test_a_connection_is_kept(path_to: Opener) -> None:
    refused = ok(b"<Error><Code>NoSuchKey</Code></Error>", "404 Not Found")
    with scripted(ok(b"one"), refused, ok(), ok(b"two")) as server:
        path = path_to(server)
        assert (await path.read(TARGET))[0] == b"one"
        assert await kind_of(path.read(TARGET)) is Kind.NOT_EXIST
        await path.put(TARGET, b"x", {})
        assert (await path.read(TARGET))[0] == b"two"
        assert server.connections == 1


async def test_a_connection_that_the_server_closed_is_not_used(path_to: Opener) -> None:
    with scripted(Reply(ok(b"one"), is_last=True), ok(b"two")) as server:
        path = path_to(server)
        await path.read(TARGET)
        await until(lambda: path._pool._idle[0].is_stale())
        assert (await path.read(TARGET))[0] == b"two"
        assert len(server.requests) == 2


@pytest.mark.parametrize("is_conditional", [False, True])
async def test_what_may_be_asked_twice_is_when_a_kept_connection_ends(
    path_to: Opener, is_conditional: bool
) -> None:
    with scripted(ok(), Reply(b"", is_last=True), ok()) as server:
        path = path_to(server)
        await path.put(TARGET, b"", {})
        if is_conditional:
            assert await kind_of(path.put(TARGET, b"", {"if-none-match": "*"})) is Kind.NET
        else:
            await path.put(TARGET, b"", {})
        assert len(server.requests) == (2 if is_conditional else 3)


async def test_a_new_connection_that_ends_is_an_error(path_to: Opener) -> None:
    with scripted(Reply(b"", is_last=True), ok()) as server:
        assert await kind_of(path_to(server).read(TARGET)) is Kind.NET
        assert len(server.requests) == 1


async def test_nobody_listens(path_to: Opener) -> None:
    with scripted() as server:
        pass
    assert await kind_of(path_to(server).head(TARGET)) is Kind.NET


# Answers.


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 No\r\nContent-Length: 49\r\n\r\n<Error><Code>AccessDenied</Code>&lt;no&gt;</Error>",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1c;x=y\r\n<Error><Code>AccessDenied</C\r\n4\r\node>\r\n0\r\nTrailer: t\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 403 No\r\n\r\n<Code>AccessDenied</Code>",
        b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_refusals(path_to: Opener, answer: bytes) -> None:
    with scripted(Reply(answer, is_last=True)) as server:
        assert await kind_of(path_to(server).read(TARGET)) is Kind.NOT_ALLOWED


async def test_a_refusal_before_the_body_is_read_is_understood(path_to: Opener, tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(HUGE)
    refused = ok(b"<Error><Code>InvalidRequest</Code></Error>", "400 Bad Request")
    with scripted(Reply(refused, is_early=True, is_last=True)) as server:
        path = path_to(server)
        kind = await kind_of(path.put_part(TARGET, "u", 1, FilePart(str(tmp_path / "huge"), 0, len(HUGE))))
        assert kind in (Kind.INVALID, Kind.NET)  # a reset may overtake the answer
        assert not path._pool._idle


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ok(b"12345")[:-1], Kind.TEMPORARY),
        (ok(b"12345")[:30], Kind.NET),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Kind.NET),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (70 << 10), Kind.NET),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n", Kind.NET),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123", Kind.NET),
    ],
)
async def test_answers_that_are_damaged(path_to: Opener, answer: bytes, kind: Kind, tmp_path: Path) -> None:
    with scripted(*[Reply(answer, is_last=True)] * 2) as server, (tmp_path / "f").open("wb") as stream:
        path = path_to(server)
        assert await kind_of(path.read(TARGET)) is kind
        assert await kind_of(path.read_into(TARGET, into(stream.fileno()))) is kind


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"Content_Range": "bytes 0-2/9"},
        {"Content_Range": "bytes 3-6/9"},
        {"Content_Range": "bytes 3-5/9"},
    ],
)
async def test_another_part_than_was_asked_for_is_an_error(path_to: Opener, sent: dict[str, str]) -> None:
    status = "206 Partial Content" if sent else "200 OK"
    with scripted(ok(b"3456", status, **sent)) as server:
        assert await kind_of(path_to(server).read(TARGET, Part(2, 3, 3))) is Kind.TEMPORARY


async def test_no_byte_is_written_beyond_a_part(path_to: Opener, tmp_path: Path) -> None:
    head = "HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 3-5/9\r\n\r\n"
    with scripted(f"{head}4\r\nmore\r\n0\r\n\r\n".encode()) as server, (tmp_path / "f").open("wb") as stream:
        kind = await kind_of(path_to(server).read_into(TARGET, into(stream.fileno()), Part(2, 3, 3)))
    assert (kind, (tmp_path / "f").read_bytes()) == (Kind.TEMPORARY, b"")


async def test_a_server_that_says_nothing_times_out(path_to: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "READ_TIMEOUT_S", 0.05)
    with scripted(Reply(b"", ok()), Reply(ok(b"12345")[:-1], b"5")) as server:
        path = path_to(server)
        assert await kind_of(path.head(TARGET)) is Kind.TIMEOUT
        assert await kind_of(path.read(TARGET)) is Kind.TIMEOUT


async def test_a_full_disk_is_named(path_to: Opener) -> None:
    with scripted(ok(b"12345")) as server:
        descriptor = os.open("/dev/full", os.O_WRONLY)
        try:
            kind = await kind_of(path_to(server).read_into(TARGET, into(descriptor)))
        finally:
            os.close(descriptor)
    assert kind is Kind.RESOURCES_EXHAUSTED


# Requests.


async def test_bodies_carry_their_sum(path_to: Opener, tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(HUGE)
    body = FilePart(str(tmp_path / "huge"), 5, (4 << 20) + 1)
    wanted = HUGE[5 : 5 + body.size]
    with scripted(ok(), ok()) as server:
        path = path_to(server, Access("AK", "SK", "TOK"))
        assert await path.put(TARGET, body, {"x-amz-meta-a": "b"}) == '"e"'
        await path.put(TARGET, b"small", {})
    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /b/a%20key/%C3%BC HTTP/1.1\r\n")
    assert sent == wanted
    found = headers(server.requests[0])
    assert found["x-amz-content-sha256"] == hashlib.sha256(wanted).hexdigest()
    assert found["x-amz-security-token"] == "TOK"
    signed = found["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert set(signed) == {name for name in found if name != "authorization"}
    assert headers(server.requests[1])["x-amz-content-sha256"] == hashlib.sha256(b"small").hexdigest()


async def test_tls(path_to: Opener, tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(HUGE)
    body = FilePart(str(tmp_path / "huge"), 0, 3 << 20)
    md5 = base64.b64encode(hashlib.md5(HUGE[: body.size], usedforsecurity=False).digest()).decode()
    with scripted(ok(), ok(HUGE), ok(HUGE), tls=str(TLS / "server.pem")) as server:
        path = path_to(
            server, Access("AK", "SK", None), tls=ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        )
        await path.put(TARGET, body, {})
        assert (await path.read(TARGET))[0] == HUGE
        with (tmp_path / "f").open("wb") as stream:
            await path.read_into(TARGET, into(stream.fileno()))
        assert (tmp_path / "f").read_bytes() == HUGE
        assert server.connections == 1
    found = headers(server.requests[0])
    assert (found["x-amz-content-sha256"], found["content-md5"]) == ("UNSIGNED-PAYLOAD", md5)
    assert server.requests[0].endswith(HUGE[: body.size])


async def test_a_server_that_nobody_vouches_for_is_refused(path_to: Opener) -> None:
    with scripted(ok(), tls=str(TLS / "server.pem")) as server:
        path = path_to(server, tls=ssl.create_default_context())
        with pytest.raises(ReflowError, match="certificate verify failed") as caught:
            await path.head(TARGET)
    assert caught.value.kind is Kind.NET


async def test_without_credentials_nothing_is_signed(
    path_to: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    with scripted(ok(b"x"), ok()) as server:
        path = path_to(server)
        await path.read(Target("b", "k", '"e"'))
        await path.put(Target("b", "k"), b"x", {})
    assert headers(server.requests[0]) == {
        "host": f"127.0.0.1:{server.port}",
        "x-amz-request-payer": "requester",
        "if-match": '"e"',
    }
    md5 = base64.b64encode(hashlib.md5(b"x", usedforsecurity=False).digest()).decode()
    assert headers(server.requests[1])["content-md5"] == md5


@pytest.mark.parametrize(("key", "header"), [("\udcff", "v"), ("k", "v\r\nx-other: y"), ("k", "日")])
async def test_what_cannot_be_sent_is_invalid(path_to: Opener, key: str, header: str) -> None:
    with scripted(ok()) as server:
        kind = await kind_of(path_to(server).put(Target("b", key), b"", {"x-amz-meta-a": header}))
        assert (kind, server.requests) == (Kind.INVALID, [])


async def test_a_file_that_shrinks_is_named(path_to: Opener, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1234")
    with scripted(ok()) as server, pytest.raises(ReflowError, match="shorter") as caught:
        await path_to(server).put(TARGET, FilePart(str(tmp_path / "f"), 0, 5), {})
    assert caught.value.kind is Kind.INTEGRITY


# Where a bucket is.


@pytest.mark.parametrize(
    ("status", "sent", "region"),
    [
        ("200 OK", {"x_amz_bucket_region": "eu-west-1"}, "eu-west-1"),
        ("301 Moved", {"x_amz_bucket_region": "eu-west-1"}, "eu-west-1"),
        ("400 Bad Request", {"x_amz_bucket_region": "eu-west-1"}, "eu-west-1"),
        ("403 Forbidden", {"x_amz_bucket_region": "eu-west-1"}, "eu-west-1"),
        ("200 OK", {}, ""),
        ("403 Forbidden", {}, ""),
    ],
)
async def test_a_bucket_says_where_it_is(
    path_to: Opener, status: str, sent: dict[str, str], region: str
) -> None:
    with scripted(ok(b"", status, **sent)) as server:
        assert await path_to(server).region() == region
    assert server.requests[0].startswith(b"HEAD /b/ HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("status", "kind"),
    [("404 Not Found", Kind.NOT_EXIST), ("301 Moved", Kind.INVALID), ("503 Slow Down", Kind.UNAVAILABLE)],
)
async def test_a_bucket_that_does_not_say_is_an_error(path_to: Opener, status: str, kind: Kind) -> None:
    with scripted(ok(b"", status)) as server:
        assert await kind_of(path_to(server).region()) is kind


async def test_whoever_was_asked_for_the_region_is_asked_for_objects_by_the_same_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scripted(ok(x_amz_bucket_region=servers.REGION), ok(b"data")) as server:
        servers.use(monkeypatch, s3=f"http://127.0.0.1:{server.port}")
        store = S3Store(AwsSession())
        bucket = await store.bucket("bucket")
        assert await bucket.read("k") == b"data"
        await store.close()
    assert server.connections == 1


async def test_a_bucket_elsewhere_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(ok(b"", "301 Moved", x_amz_bucket_region="eu-west-1"), ok(b"data")) as server:
        servers.use(monkeypatch, s3=f"http://127.0.0.1:{server.port}")
        store = S3Store(AwsSession())
        assert await (await store.bucket("bucket")).read("k") == b"data"
        await store.close()
    assert b"/eu-west-1/s3/aws4_request" in server.requests[1]


# Cancellation.


async def test_nothing_is_written_after_a_call_was_cancelled(
    path_to: Opener, blocking: Blocking, tmp_path: Path
) -> None:
    reply = Reply(ok(HUGE)[: 4 << 20], ok(HUGE)[4 << 20 :])
    with scripted(reply) as server, (tmp_path / "f").open("wb") as stream:
        work = asyncio.ensure_future(path_to(server).read_into(TARGET, into(stream.fileno())))
        await until(lambda: os.fstat(stream.fileno()).st_size)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        os.ftruncate(stream.fileno(), 0)
        reply.gate.set()
        assert await blocking(lambda: os.fstat(stream.fileno()).st_size) == 0


async def test_a_call_that_waits_for_a_connection_can_be_cancelled(
    path_to: Opener, blocking: Blocking, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, gate = threading.Event(), threading.Event()
    connect = socket.create_connection

    def slow(*arguments: object, **more: object) -> socket.socket:
        reached.set()
        gate.wait(30)
        return connect(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "create_connection", slow)
    with scripted(ok()) as server:
        work = asyncio.ensure_future(path_to(server).put(TARGET, b"x", {}))
        await asyncio.to_thread(reached.wait)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        gate.set()
        await asyncio.gather(*[blocking(lambda: None) for _ in range(4)])
        assert server.requests == []
