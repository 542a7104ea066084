"""A proxy between a client and an HTTP server, which does harm at random: on one machine, what networks do.

Which harm a request meets depends on the seed, on what it asks and on how often that was asked, not on what
runs at the same time. Requests are passed on as they come, their signatures included.
"""

from __future__ import annotations

import asyncio
import enum
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit


class Fault(enum.Enum):
    """What can happen to a request."""

    DELAY = "answered late"
    CUT_BEFORE = "cut before it got there"
    CUT_REQUEST = "cut in the midst of its body"
    CUT_AFTER = "carried out, its answer lost"
    CUT_ANSWER = "its answer cut in the midst"
    SHORT_ANSWER = "its answer shorter, as if that were all"
    SLOW_DOWN = "503 SlowDown"
    THROTTLED = "400 ThrottlingException"
    TOO_MANY = "429 TooManyRequests"
    INTERNAL = "500 InternalError"
    INTERNAL_AFTER = "carried out, then 500 InternalError"
    CORRUPT_REQUEST = "a byte of its body changed"
    CORRUPT_ANSWER = "a byte of the object changed"


_REFUSALS = {
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.THROTTLED: (400, "ThrottlingException"),
    Fault.TOO_MANY: (429, "TooManyRequests"),
    Fault.INTERNAL: (500, "InternalError"),
    Fault.INTERNAL_AFTER: (500, "InternalError"),
}
_LONGEST_DELAY_S = 0.2
_QUIET_TURNS = 5
_UPLOAD = re.compile(r"uploadId=[^&]*&?")


class Message(NamedTuple):
    """A request or an answer: its first line, its headers, its body."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """A header's value; empty when there is none."""
        return next((value for each, value in self.headers if each.lower() == name), "")

    @property
    def what(self) -> str:
        """What a request asks: method, target without an upload's id, range."""
        words = [*self.line.split()[:2], self.header("range")]
        return _UPLOAD.sub("", " ".join(words)).rstrip()

    def without(self, *names: str) -> Message:
        """Without some headers."""
        kept = [(name, value) for name, value in self.headers if name.lower() not in names]
        return self._replace(headers=kept)

    def encoded(self) -> bytes:
        """As it goes over the wire."""
        lines = [self.line, *[f"{name}: {value}" for name, value in self.headers], "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body


class Reply(NamedTuple):
    """What a client gets, and whether its connection ends then."""

    data: bytes
    is_last: bool = False


NOTHING = Reply(b"", is_last=True)


class FaultProxy:
    """``rates`` has the chance of each fault; ``done`` counts them, ``asked`` what is asked for.

    ``plan`` says of what is asked, and how often that was, what happens: a fault, an answer, or nothing.
    ``events`` are requests (``> PUT /b/key``) and answers (``< PUT /b/key``) in order.
    """

    def __init__(self, upstream: str, seed: int) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._seed = seed
        self.rates: dict[Fault, float] = {}
        self.plan: Callable[[str, int], Fault | Message | None] = lambda what, count: None
        self.done: Counter[Fault] = Counter()
        self.asked: Counter[str] = Counter()
        self.events: list[str] = []

    def _draw(self, request: Message) -> tuple[Fault | Message | None, random.Random]:
        what = request.what
        self.events.append(f"> {what}")
        self.asked[what] += 1
        chance = random.Random(f"{self._seed} {what} {self.asked[what]}")
        if planned := self.plan(what, self.asked[what]):
            return planned, chance
        dice = chance.random()
        for fault, rate in self.rates.items():
            dice -= rate
            if dice < 0:
                return (fault if _fits(fault, request) else None), chance
        return None, chance

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client."""
        try:
            while (request := await _read_request(reader, writer)) is not None:
                reply = await self._reply(request)
                self.events.append(f"< {request.what}")
                writer.write(reply.data)
                await writer.drain()
                if reply.is_last:
                    break
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the client has gone away
        except asyncio.CancelledError:
            pass  # the proxy ends
        finally:
            writer.transport.abort()

    async def _reply(self, request: Message) -> Reply:
        """What the client gets."""
        fault, chance = self._draw(request)
        if isinstance(fault, Message):
            return Reply(fault.encoded())
        if fault is not None:
            self.done[fault] += 1
        if fault is Fault.CUT_BEFORE:
            return NOTHING
        if fault is Fault.CUT_REQUEST:
            await self._ask(request, chance.randrange(len(request.body)))
            return NOTHING
        if fault in _REFUSALS and fault is not Fault.INTERNAL_AFTER:
            return _refusal(fault, request)
        if fault is Fault.CORRUPT_REQUEST:
            request = request._replace(body=_corrupted(request.body, chance))
        if fault is Fault.DELAY:
            await asyncio.sleep(chance.uniform(0, _LONGEST_DELAY_S))
        answer = await self._ask(request)
        if answer is None or fault is Fault.CUT_AFTER:
            return NOTHING
        if fault is Fault.INTERNAL_AFTER:
            return _refusal(fault, request)
        return _harmed(request, answer, fault, chance)

    async def _ask(self, request: Message, sent: int | None = None) -> Message | None:
        """Ask the server; with ``sent`` only so many bytes of the body go there, and there is no answer."""
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            data = request.encoded()
            writer.write(data if sent is None else data[: len(data) - len(request.body) + sent])
            await writer.drain()
            return None if sent is not None else await _read_answer(reader)
        finally:
            writer.transport.abort()


def _fits(fault: Fault, request: Message) -> bool:
    """Whether a fault can happen to such a request."""
    method, target = request.line.split()[:2]
    if fault in (Fault.CUT_REQUEST, Fault.CORRUPT_REQUEST):
        return bool(request.body)
    if fault in (Fault.CUT_ANSWER, Fault.SHORT_ANSWER):
        return method != "HEAD"
    if fault is Fault.CORRUPT_ANSWER:  # only objects carry sums
        return method == "GET" and target.count("/") > 1 and "uploadId=" not in target
    return True


def xml_answer(status: int, body: str, *headers: tuple[str, str], is_head: bool = False) -> Message:
    """An answer as S3 gives it; to a HEAD it has no body."""
    data = body.encode()
    rows = [*headers, ("Content-Type", "application/xml"), ("Content-Length", str(len(data)))]
    return Message(f"HTTP/1.1 {status} by-the-proxy", rows, b"" if is_head else data)


def error_answer(status: int, code: str, *headers: tuple[str, str], is_head: bool = False) -> Message:
    """A refusal as S3 gives it."""
    body = f"<Error><Code>{code}</Code><Message>by the proxy</Message></Error>"
    return xml_answer(status, body, *headers, is_head=is_head)


def _refusal(fault: Fault, request: Message) -> Reply:
    is_head = request.line.startswith("HEAD ")
    return Reply(error_answer(*_REFUSALS[fault], is_head=is_head).encoded())


def _corrupted(body: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(body))
    return body[:place] + bytes([body[place] ^ (1 << chance.randrange(8))]) + body[place + 1 :]


def _harmed(request: Message, answer: Message, fault: Fault | None, chance: random.Random) -> Reply:
    if request.line.startswith("HEAD "):
        return Reply(answer.encoded())
    body, is_object = answer.body, answer.line.split()[1] in ("200", "206")
    kept = chance.randrange(len(body)) if body else 0
    if fault is Fault.CORRUPT_ANSWER and body and is_object:
        body = _corrupted(body, chance)
    if fault is Fault.SHORT_ANSWER:
        body = body[:kept]
    answer = answer.without("content-length", "transfer-encoding")
    if answer.line.split()[1] != "204":
        answer.headers.append(("Content-Length", str(len(body))))
    data = answer._replace(body=body).encoded()
    if fault is Fault.CUT_ANSWER and body:
        return Reply(data[: len(data) - len(body) + kept], is_last=True)
    return Reply(data)


async def _read_head(reader: asyncio.StreamReader) -> Message | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as err:
        if err.partial:
            raise
        return None
    line, *rows = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (row.partition(":") for row in rows)]
    return Message(line, headers, b"")


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message | None:
    head = await _read_head(reader)
    if head is None:
        return None
    if head.header("expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    body = await reader.readexactly(int(head.header("content-length") or 0))
    head = head.without("expect", "connection")
    return head._replace(headers=[*head.headers, ("Connection", "close")], body=body)


async def _read_answer(reader: asyncio.StreamReader) -> Message | None:
    head = await _read_head(reader)
    if head is None:
        return None
    body = await reader.read()
    if "chunked" in head.header("transfer-encoding"):
        body = _unchunked(body)
    return head.without("connection", "keep-alive")._replace(body=body)


def _unchunked(data: bytes) -> bytes:
    chunks, start = [], 0
    while True:
        end = data.index(b"\r\n", start)
        size = int(data[start:end].split(b";")[0], 16)
        if not size:
            return b"".join(chunks)
        chunks.append(data[end + 2 : end + 2 + size])
        start = end + 4 + size


@contextmanager
def fault_proxy(upstream: str, seed: int) -> Iterator[tuple[FaultProxy, str]]:
    """A proxy that runs in a thread, and its URL. It does no harm until it is given rates."""
    proxy = FaultProxy(upstream, seed)
    with served(proxy) as url:
        yield proxy, url


@contextmanager
def served(proxy: FaultProxy) -> Iterator[str]:
    """The URL of a proxy that runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault-proxy", daemon=True)
    thread.start()
    starting = asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    quiet = 0
    while quiet < _QUIET_TURNS:  # connections that were accepted may have no task yet, aborted ones be open
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        quiet = 0 if tasks else quiet + 1
