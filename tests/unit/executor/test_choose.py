"""Which executor a run uses, with sockets of our own in the daemon's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.executor import choose, sandbox_trial
from reflow.executor.choose import choose_executor
from reflow.executor.sandbox_trial import Trial
from reflow.executor.sandbox_words import Program, User

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


def trial(trouble: str) -> Callable[[], Trial]:
    return lambda: Trial(Program("/usr/bin/bwrap"), User(1, 1, True), trouble)


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bubblewrap works."""
    monkeypatch.setattr(sandbox_trial, "try_bubblewrap", trial(""))


@pytest.fixture
def banned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bubblewrap does not work."""
    monkeypatch.setattr(sandbox_trial, "try_bubblewrap", trial("namespaces are banned"))


async def test_auto_takes_docker_where_a_daemon_answers(socket: Path) -> None:
    async with daemon(socket, OK):
        choice = await choose_executor("auto", images=["ubuntu"])
    assert choice == ("docker", f"its daemon answers at {socket}", "")


async def test_auto_takes_sandbox_where_none_answers(socket: Path, works: None) -> None:
    choice = await choose_executor("auto", images=["b", "a", "a"])
    assert choice == ("sandbox", f"docker: no daemon at {socket}; bubblewrap works", "")


async def test_auto_takes_process_where_bubblewrap_does_not_work(socket: Path, banned: None) -> None:
    choice = await choose_executor("auto", images=["b", "a", "a"])
    assert choice.name == "process"
    assert choice.reason == f"docker: no daemon at {socket}; sandbox: namespaces are banned"
    assert choice.warning == "images are ignored (a, b): execs run with the programs of this machine"


async def test_auto_takes_process_where_an_image_cannot_be_had(socket: Path, works: None) -> None:
    asked: list[Collection[str]] = []

    async def missing(images: Collection[str]) -> Mapping[str, str]:
        asked.append(images)
        return {"b": "no such repository"}

    choice = await choose_executor("auto", images=["b", "a"], missing=missing)
    assert choice.name == "process"
    assert "sandbox: image b is not unpacked here, and cannot be had (no such repository)" in choice.reason
    assert asked == [["b", "a"]]
    assert (await choose_executor("sandbox", images=["b"], missing=missing)).name == "sandbox"
    async with daemon(socket, OK):
        assert (await choose_executor("auto", images=["b"], missing=missing)).name == "docker"
    assert (await choose_executor("auto", images=[], missing=missing)).name == "sandbox"
    assert len(asked) == 1, "nobody is asked where it does not matter"


async def test_a_daemon_that_hangs_does_not_count(
    socket: Path, monkeypatch: pytest.MonkeyPatch, banned: None
) -> None:
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
async def test_remote_daemons_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, banned: None, host: str
) -> None:
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


async def test_sandbox_is_taken_when_asked_for(socket: Path, works: None) -> None:
    async with daemon(socket, OK):
        assert await choose_executor("sandbox") == ("sandbox", "asked for", "")


async def test_a_named_sandbox_never_falls_back(socket: Path, banned: None) -> None:
    with pytest.raises(ReflowError, match="namespaces are banned; choose another executor") as caught:
        await choose_executor("sandbox")
    assert caught.value.kind is Kind.PRECONDITION


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
