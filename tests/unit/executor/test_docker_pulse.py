"""How long the answer to a call of the Docker daemon is waited for."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator

import pytest

from reflow.executor import docker_pulse
from reflow.executor.docker_pulse import Pulse


@pytest.fixture
async def socket() -> AsyncIterator[str]:
    """A daemon that says that it is there, whatever it is asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nOK")
        await writer.drain()
        writer.close()

    with tempfile.TemporaryDirectory() as directory:  # the path of a socket must be short
        path = f"{directory}/docker.sock"
        async with await asyncio.start_unix_server(answer, path):
            yield path


async def test_a_call_that_hangs_though_the_daemon_answers_is_given_up_when_all_is_to_end(
    socket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_pulse, "_LOOK_S", 0.01)
    monkeypatch.setattr(docker_pulse, "ENDING_S", 0.0)
    call: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError, match="no answer to a call within 0 s at"):
        await asyncio.wait_for(Pulse(socket, lambda: True).answered(call), 60)
    assert call.cancelled()


async def test_a_call_of_a_daemon_that_hangs_is_given_up_when_all_is_to_end_and_not_before(
    socket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_pulse, "_LOOK_S", 0.01)
    is_ending = False
    looked = asyncio.Event()

    def look() -> bool:
        looked.set()
        return is_ending

    call: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(Pulse(f"{socket}-none", look).answered(call))
    await looked.wait()
    assert not waiting.done()
    is_ending = True
    with pytest.raises(TimeoutError, match="no daemon at"):
        await asyncio.wait_for(waiting, 60)
