"""Which executor a run uses, with sockets of our own in the daemon's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.executor import choose
from reflow.executor.choose import choose_executor

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
ERROR = b'HTTP/1.1 500 X\r\nContent-Type: application/json\r\n\r\n{"message": "out of sorts"}'


@asynccontextmanager
async def daemon(path: Path, answer: bytes | None) -> AsyncIterator[None]:
    """A socket that answers every request so; None: never."""

    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.Event())
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()
        await writer.wait_closed()
        ended[-1].set()

    async with await asyncio.start_unix_server(serve, str(path)):
        yield
        for event in ended:
            await event.wait()


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    return tmp_path / "docker.sock"


async def test_auto_takes_docker_where_a_daemon_answers(socket: Path) -> None:
    async with daemon(socket, OK):
        choice = await choose_executor("auto", images=["ubuntu"])
    assert choice == ("docker", f"its daemon answers at {socket}", "")


async def test_auto_takes_process_where_none_answers(socket: Path) -> None:
    choice = await choose_executor("auto", images=["b", "a", "a"])
    assert choice.name == "process"
    assert f"no daemon at {socket}" in choice.reason
    assert choice.warning == "images are ignored (a, b): execs run with the programs of this machine"


async def test_a_daemon_that_hangs_does_not_count(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_AUTO_TIMEOUT_S", 0.1)
    async with daemon(socket, None):
        choice = await choose_executor("auto")
    assert choice.name == "process"
    assert "no answer within 0.1 s" in choice.reason


async def test_a_daemon_that_fails_does_not_count(socket: Path) -> None:
    async with daemon(socket, ERROR):
        assert "out of sorts" in (await choose_executor("auto")).reason


async def test_a_named_docker_never_falls_back(socket: Path) -> None:
    with pytest.raises(ReflowError, match="no daemon at") as caught:
        await choose_executor("docker")
    assert caught.value.kind is Kind.PRECONDITION


@pytest.mark.parametrize("host", ["tcp://1.2.3.4:2375", "ssh://me@there"])
async def test_remote_daemons_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(ReflowError, match=host) as caught:
        await choose_executor("docker")
    assert caught.value.kind is Kind.NOT_SUPPORTED
    choice = await choose_executor("auto")
    assert choice.name == "process"
    assert host in choice.reason


async def test_process_is_taken_when_asked_for(socket: Path) -> None:
    async with daemon(socket, OK):
        choice = await choose_executor("process", images=["a", "b", "c", "d"])
    assert choice.name == "process"
    assert "(a, b, c and 1 more)" in choice.warning


async def test_sandbox_is_not_there_yet() -> None:
    with pytest.raises(ReflowError, match="sandbox") as caught:
        await choose_executor("sandbox")
    assert caught.value.kind is Kind.NOT_SUPPORTED


async def test_other_names_are_refused() -> None:
    with pytest.raises(ReflowError, match="auto, docker, sandbox, process") as caught:
        await choose_executor("podman")
    assert caught.value.kind is Kind.INVALID


async def test_without_bash_nothing_is_chosen(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("auto", "process"):
        with pytest.raises(ReflowError, match="bash was not found"):
            await choose_executor(name)
