"""Objects' bytes through signed requests of our own, over kept connections, in threads (decision 0011).

A body is sent with a sum of it, so that a server refuses what was damaged on its way: its SHA-256 is part of
the signature, or under TLS, where that is not needed, its MD5 is sent. Requests of which it does not matter
whether they are made twice are repeated, once, when a kept connection turns out to be closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from reflow.aws.error import refusal, unreachable
from reflow.aws.httpconnection import Answer, Connection, CutError, Origin, Pool
from reflow.aws.session import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from reflow.aws.sigv4 import (
    EMPTY_PAYLOAD,
    UNSIGNED_PAYLOAD,
    Access,
    Scope,
    authorization,
    encoded,
    timestamp,
)
from reflow.blob.datapath import Body, DataPath, FilePart, Received, Target, Write, payer
from reflow.blob.outgoing import Outgoing, opened, size_of
from reflow.blob.s3part import Part
from reflow.core.errors import Kind, ReflowError
from reflow.disk.blocking import Blocking

T = TypeVar("T")

_MOST_ERROR = 64 << 10
_CONDITIONS = ("if-match", "if-none-match")
_POLL_S = 0.005
_LONGEST_DOUBT_S = 10.0
"""How long a cancelled call waits for the answer to what it has sent whole."""


class Route(NamedTuple):
    """Where a bucket's requests go: an origin, the Host header, what paths begin with (``/``, ``/bucket/``).

    ``access`` gives the credentials of a request, None for none; it may block.
    """

    origin: Origin
    host: str
    start: str
    scope: Scope
    access: Callable[[], Access | None]


class _Request(NamedTuple):
    """What to ask. ``op`` is the name that errors have for it."""

    op: str
    method: str
    target: Target
    headers: dict[str, str]
    query: str = ""
    body: Body = b""
    accepted: tuple[int, ...] = (200, 206)

    @property
    def is_repeatable(self) -> bool:
        """Whether it does no harm to make it twice."""
        return self.method != "PUT" or not any(name in self.headers for name in _CONDITIONS)


Receive = Callable[[Connection, Answer], T]
"""Takes the body of an answer."""


class _Stop:
    """Ends a call from another thread, by cutting the connection that it uses.

    After `commit` the server may carry the call out, so that its answer is waited for, unless that takes
    too long. ``is_ended``: the call's thread does nothing more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._is_set = False
        self._is_committed = False
        self.is_ended = False

    def watch(self, connection: Connection) -> None:
        """From now on `__call__` cuts the connection. Raises CutError when it was called before."""
        with self._lock:
            if self._is_set:
                raise CutError("cancelled")
            self._connection = connection

    def commit(self, is_change: bool) -> None:
        """From now on `__call__` cuts no change. Raises CutError when it was called before."""
        with self._lock:
            if self._is_set:
                raise CutError("cancelled")
            self._is_committed = is_change

    def let_go(self) -> None:
        """Leave the connection alone again."""
        with self._lock:
            self._connection = None
            self._is_committed = False

    def __call__(self) -> bool:
        """Stop; whether a connection was in use, so that its thread has to be waited for."""
        with self._lock:
            self._is_set = True
            if self._connection is None:
                return False
            if not self._is_committed:
                self._connection.stop()
            return True

    def cut(self) -> None:
        """Cut the connection, come what may."""
        with self._lock:
            if self._connection is not None:
                self._connection.stop()


class DirectPath:
    """The calls for one bucket."""

    def __init__(self, route: Route, bucket: str, blocking: Blocking) -> None:
        self._route = route
        self._bucket = bucket
        self._pool = Pool(route.origin, CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        self._blocking = blocking
        self._always = {"x-amz-request-payer": payer()} if payer() else {}

    async def region(self) -> str:
        """Where the bucket says that it is; empty when it does not say."""
        target = Target(self._bucket, "")
        request = _Request("bucket", "HEAD", target, {}, accepted=(200, 301, 400, 403))

        def receive(connection: Connection, answer: Answer) -> str:
            found = answer.headers.get("x-amz-bucket-region", "")
            if not found and answer.status in (301, 400):
                raise self._refused(connection, request, answer)
            return found

        return await self._call(request, receive)

    async def head(self, target: Target) -> Received:
        """What is known of an object."""
        return await self._call(_Request("head_object", "HEAD", target, _wanted(target)), _described)

    async def read(self, target: Target, part: Part | None = None) -> tuple[bytes, Received]:
        """An object, or a part of it, in memory; whole, or an error."""
        request = _Request("get_object", "GET", target, _wanted(target, part))

        def receive(connection: Connection, answer: Answer) -> tuple[bytes, Received]:
            size = self._size(request, answer, part)
            data = b"".join(map(bytes, connection.chunks(answer)))
            return data, self._received(request, answer, size, len(data))

        return await self._call(request, receive)

    async def read_into(
        self, target: Target, begin: Callable[[Received], Write], part: Part | None = None
    ) -> Received:
        """Hand on an object, or a part of it, as it comes; see `DataPath.read_into`."""
        request = _Request("get_object", "GET", target, _wanted(target, part))
        start = part.offset if part is not None else 0

        def receive(connection: Connection, answer: Answer) -> Received:
            size = self._size(request, answer, part)
            offset = start
            write = begin(Received(size, answer.headers.get("etag", ""), answer.headers))
            for chunk in connection.chunks(answer):
                if 0 <= size < offset - start + len(chunk):
                    raise self._mismatch(request, "more", size)
                write(chunk, offset)
                offset += len(chunk)
            return self._received(request, answer, size, offset - start)

        return await self._call(request, receive)

    async def put(self, target: Target, body: Body, headers: dict[str, str]) -> str:
        """Store an object whole or not at all; its ETag."""
        request = _Request("put_object", "PUT", target, headers, body=body)
        return (await self._call(request, _described)).etag

    async def put_file(self, target: Target, path: str, headers: dict[str, str], *, most: int) -> int:
        """Store a file that is not larger than ``most``; its size."""

        def put(stop: _Stop) -> int:
            size = size_of(path)
            if size <= most:
                body = FilePart(path, 0, size)
                self._translated(_Request("put_object", "PUT", target, headers, body=body), _described, stop)
            return size

        return await self._in_thread(put)

    async def put_part(self, target: Target, upload: str, number: int, body: Body) -> str:
        """Store one part of a multipart upload; its ETag."""
        query = f"partNumber={number}&uploadId={encoded(upload)}"
        request = _Request("upload_part", "PUT", target, {}, query, body)
        return (await self._call(request, _described)).etag

    async def close(self) -> None:
        """Let go of connections."""
        self.hang_up()

    def hang_up(self) -> None:
        """Let go of connections; from any thread."""
        self._pool.close()

    # One call, in a thread.

    async def _call(self, request: _Request, receive: Receive[T]) -> T:
        return await self._in_thread(partial(self._translated, request, receive))

    async def _in_thread(self, work: Callable[[_Stop], T]) -> T:
        """Make a request. When it is cancelled, its thread has done its last when this raises."""
        stop = _Stop()
        try:
            return await self._blocking(work, stop)
        except asyncio.CancelledError:
            if stop():
                until = time.monotonic() + _LONGEST_DOUBT_S
                while not stop.is_ended:
                    if time.monotonic() > until:
                        stop.cut()
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(_POLL_S)
            raise

    def _translated(self, request: _Request, receive: Receive[T], stop: _Stop) -> T:
        op, subject = f"s3.{request.op}", request.target.url
        try:
            with opened(request.body) as body:
                return self._attempt(request, body, receive, stop)
        except UnicodeEncodeError as err:
            raise ReflowError(Kind.INVALID, op, subject, cause=f"cannot be sent: {err.reason}") from err
        except TimeoutError as err:
            raise ReflowError(Kind.TIMEOUT, op, subject, cause=self._unreachable(op, err)) from err
        except OSError as err:
            raise ReflowError(Kind.NET, op, subject, cause=self._unreachable(op, err)) from err
        finally:
            stop.is_ended = True

    def _unreachable(self, op: str, err: OSError) -> str:
        origin = self._route.origin
        return unreachable(op, f"{origin.host}:{origin.port}: {err.strerror or err}")

    def _attempt(self, request: _Request, body: Outgoing, receive: Receive[T], stop: _Stop) -> T:
        """Make a request; again when a kept connection was closed before it was answered."""
        head = self._head(request, body)
        connection = self._pool.take()
        try:
            stop.watch(connection)
            return self._exchange(connection, request, head, body, receive, stop)
        except (CutError, ConnectionError):
            if not connection.was_used or connection.is_answered or not request.is_repeatable:
                raise
        finally:
            stop.let_go()
            self._pool.give(connection)
        connection = self._pool.take(fresh=True)
        try:
            stop.watch(connection)
            return self._exchange(connection, request, head, body, receive, stop)
        finally:
            stop.let_go()
            self._pool.give(connection)

    def _exchange(
        self,
        connection: Connection,
        request: _Request,
        head: bytes,
        body: Outgoing,
        receive: Receive[T],
        stop: _Stop,
    ) -> T:
        try:
            body.send(connection, head, partial(stop.commit, request.method == "PUT"))
        except (BrokenPipeError, ConnectionResetError):
            answer = connection.answer(request.method)  # it may have refused before it had all
            if answer.status in request.accepted:
                raise
        else:
            answer = connection.answer(request.method)
        if answer.status not in request.accepted:
            raise self._refused(connection, request, answer)
        return receive(connection, answer)

    def _head(self, request: _Request, body: Outgoing) -> bytes:
        """The head of a request, signed."""
        path = self._route.start + encoded(request.target.key, safe="/")
        path = f"{path}?{request.query}" if request.query else path
        headers = {"host": self._route.host, **self._always, **request.headers}
        access = self._route.access()
        payload = EMPTY_PAYLOAD
        if request.method == "PUT":
            headers["content-length"] = str(body.size)
            if self._route.origin.tls is None and access is not None:
                payload = body.sha256()
            else:
                payload = UNSIGNED_PAYLOAD
                headers["content-md5"] = body.md5()
        if access is not None:
            headers["x-amz-content-sha256"] = payload
            headers["x-amz-date"] = timestamp()
            if access.token:
                headers["x-amz-security-token"] = access.token
            headers["authorization"] = authorization(
                request.method, path, headers, payload, access, self._route.scope
            )
        lines = [f"{name}: {value}" for name, value in headers.items()]
        text = "\n".join(lines)
        if text.count("\n") >= len(lines) or "\r" in text:
            cause = "a header that was to be sent has more than one line"
            raise ReflowError(Kind.INVALID, f"s3.{request.op}", request.target.url, cause=cause)
        text = text.replace("\n", "\r\n")
        return f"{request.method} {path} HTTP/1.1\r\n{text}\r\n\r\n".encode("latin-1")

    # Answers.

    def _refused(self, connection: Connection, request: _Request, answer: Answer) -> ReflowError:
        """What an answer means that says no."""
        text = bytearray()
        for chunk in connection.chunks(answer):
            text += chunk
            if len(text) > _MOST_ERROR:
                break
        code, message, region = (_element(text, name) for name in (b"Code", b"Message", b"Region"))
        region = answer.headers.get("x-amz-bucket-region", region)
        subject = request.target.url
        return refusal(code, message, answer.status, f"s3.{request.op}", subject, region=region)

    def _size(self, request: _Request, answer: Answer, part: Part | None) -> int:
        """How many bytes have to come. Raises TEMPORARY when they are not those that were asked for."""
        if part is None:
            return answer.size
        wanted = part.range.replace("=", " ") + "/"
        if answer.status != 206 or not answer.headers.get("content-range", "").startswith(wanted):
            cause = f"got {answer.headers.get('content-range') or 'all of it'}, want {wanted[:-1]}"
            raise ReflowError(Kind.TEMPORARY, "s3.get_object", request.target.url, cause=cause)
        if answer.size not in (-1, part.size):
            raise self._mismatch(request, str(answer.size), part.size)
        return part.size

    def _mismatch(self, request: _Request, got: str, want: int) -> ReflowError:
        cause = f"damaged on its way: got {got} bytes, want {want}"
        return ReflowError(Kind.TEMPORARY, "s3.get_object", request.target.url, cause=cause)

    def _received(self, request: _Request, answer: Answer, size: int, got: int) -> Received:
        if size not in (-1, got):
            raise self._mismatch(request, str(got), size)
        return Received(got, answer.headers.get("etag", ""), answer.headers)


def _wanted(target: Target, part: Part | None = None) -> dict[str, str]:
    """Headers that ask for one version, and for a part of it."""
    headers = {"if-match": target.etag} if target.etag else {}
    if part is not None:
        headers["range"] = part.range
    return headers


def _described(_connection: Connection, answer: Answer) -> Received:
    size = answer.headers.get("content-length", "")
    return Received(int(size) if size.isdecimal() else 0, answer.headers.get("etag", ""), answer.headers)


def _element(text: bytes | bytearray, name: bytes) -> str:
    """The text of an element of an error's XML; empty when it is not there."""
    found = re.search(rb"<%b>([^<]*)</%b>" % (name, name), text)
    if not found:
        return ""
    import html  # refusals are rare, and it takes a millisecond

    return html.unescape(found[1].decode(errors="replace"))


if TYPE_CHECKING:
    _: type[DataPath] = DirectPath
