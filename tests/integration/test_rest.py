"""Requests to an agent, with answers that no healthy one gives."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.rest import Rest
from tests.scripted import Reply, Scripted, ok, scripted

TLS = Path(__file__).parent.parent / "data" / "tls"
REFUSAL = {"Op": "alloc", "Arg": ["x"], "Kind": "NotExist", "Error": ""}


def rest_to(server: Scripted, tls: ssl.SSLContext | None = None) -> Rest:
    return Rest(f"http{'' if tls is None else 's'}://127.0.0.1:{server.port}/v1", tls)


async def refused(rest: Rest, method: str = "GET", path: str = "allocs/x") -> ReflowError:
    with pytest.raises(ReflowError) as caught:
        await rest.ask(method, path)
    await rest.close()
    return caught.value


async def test_json_goes_and_comes() -> None:
    with scripted(ok(b'{"Interval": 3}\n')) as server:
        rest = rest_to(server)
        assert await rest.ask("POST", "allocs/a/keepalive", {"Interval": 5}) == {"Interval": 3}
        await rest.close()
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/allocs/a/keepalive HTTP/1.1\r\n")
    assert body == b'{"Interval":5}\n'


async def test_connections_are_kept() -> None:
    with scripted(ok(b"1"), ok(b"2")) as server:
        rest = rest_to(server)
        assert [await rest.ask("GET", "a"), await rest.ask("GET", "b")] == [1, 2]
        await rest.close()
    assert server.connections == 1


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "418 I'm a teapot"])
async def test_an_error_keeps_its_kind_whatever_the_status(status: str) -> None:
    with scripted(ok(json.dumps(REFUSAL).encode(), status)) as server:
        error = await refused(rest_to(server))
    assert (error.kind, str(error)) == (Kind.NOT_EXIST, "alloc x: resource does not exist")


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (ok(b"<html>gone", "404 Not Found"), Kind.NOT_EXIST, "the agent answered 404: <html>gone"),
        (ok(b"", "503 Busy"), Kind.TEMPORARY, "the agent answered 503"),
        (ok(b"[1]", "500 Oops"), Kind.OTHER, "the agent answered 500: [1]"),
        (ok(b'{"Op": {}, "Arg": 3}', "500 Oops"), Kind.OTHER, "the agent answered 500"),
        (ok(b"not json"), Kind.INVALID, "the agent answered no JSON: not json"),
        (ok(b"x" * 5000), Kind.INVALID, "x" * 200 + "…"),
        (Reply(ok(b'{"a": 1}')[:-3], is_last=True), Kind.NET, ""),
        (Reply(b"", is_last=True), Kind.NET, ""),
        (Reply(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", is_last=True), Kind.NET, ""),
    ],
)
async def test_answers_that_are_none(answer: Any, kind: Kind, text: str) -> None:
    with scripted(answer, answer) as server:
        error = await refused(rest_to(server))
    assert error.kind is kind
    assert text in str(error)


async def test_nobody_there() -> None:
    with scripted() as server:
        port = server.port
    error = await refused(Rest(f"http://127.0.0.1:{port}/v1/"))
    assert error.kind is Kind.NET
    assert f"127.0.0.1:{port}" in str(error)


async def test_answers_to_head() -> None:
    with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", b"HTTP/1.1 404 No\r\n\r\n") as server:
        rest = rest_to(server)
        assert await rest.head("objects/a") == 8
        with pytest.raises(ReflowError) as caught:
            await rest.head("objects/b")
        await rest.close()
    assert caught.value.kind is Kind.NOT_EXIST


async def test_a_stream_is_there_before_it_ends() -> None:
    answer = ok(b"first,second")
    reply = Reply(answer[:-7], answer[-7:])
    with scripted(reply) as server:
        rest = rest_to(server)
        chunks = rest.stream("GET", "logs")
        assert await anext(chunks) == b"first"
        reply.gate.set()
        assert [chunk async for chunk in chunks] == [b",second"]
        await rest.close()


async def test_a_stream_that_is_cut_is_an_error() -> None:
    with scripted(Reply(ok(b"0123456789")[:-6], is_last=True)) as server:
        rest = rest_to(server)
        with pytest.raises(ReflowError) as caught:
            [chunk async for chunk in rest.stream("GET", "object")]
        await rest.close()
    assert caught.value.kind is Kind.NET


async def test_a_call_that_is_cancelled_ends() -> None:
    reply = Reply(b"", ok())
    with scripted(reply) as server:
        rest = rest_to(server)
        work = asyncio.ensure_future(rest.ask("GET", "wait"))
        while not server.requests:  # noqa: ASYNC110  (the server's thread sets no event)
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await rest.close()
        reply.gate.set()


@pytest.fixture
def trusted() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(TLS / "ca.pem"))


async def test_tls(trusted: ssl.SSLContext) -> None:
    with scripted(ok(b"1"), tls=str(TLS / "server.pem")) as server:
        rest = rest_to(server, trusted)
        assert await rest.ask("GET", "a") == 1
        await rest.close()


async def test_an_agent_that_nobody_vouches_for_is_refused() -> None:
    with scripted(ok(b"1"), tls=str(TLS / "server.pem")) as server:
        error = await refused(Rest(f"https://127.0.0.1:{server.port}/v1/"))
    assert error.kind is Kind.NET
    assert "certificate verify failed" in str(error)


async def test_what_is_sent_may_be_a_stream() -> None:
    async def some() -> AsyncIterator[bytes]:
        yield b"one,"
        yield b"two"

    with scripted(Reply(ok(b'"sha256:x"'), is_early=True), ok()) as server:  # the rest seems another request
        rest = rest_to(server)
        assert await rest.send("POST", "repository/", some()) == b'"sha256:x"'
        await rest.close()
    assert b"chunked" in server.requests[0].lower()
