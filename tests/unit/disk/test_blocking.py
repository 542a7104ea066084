"""Blocking calls in threads."""

import asyncio
import threading
import time

import pytest

from reflow.disk.blocking import Blocking


async def test_what_comes_while_the_loop_is_busy_wakes_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    blocking, loop, woken = Blocking("test", 4), asyncio.get_running_loop(), []
    wake = loop.call_soon_threadsafe

    def counting(*arguments: object) -> object:
        woken.append(arguments)
        return wake(*arguments)  # type: ignore[arg-type]  (as it came)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    begun = threading.Barrier(5)

    def work(number: int) -> int:
        begun.wait()
        return number

    calls = [asyncio.ensure_future(blocking(work, number)) for number in range(4)]
    await asyncio.sleep(0)
    begun.wait()
    while not have_come(blocking, 4):
        time.sleep(0.001)  # noqa: ASYNC251  (the loop is to look at nothing meanwhile)
    assert await asyncio.gather(*calls) == [0, 1, 2, 3]
    assert len(woken) == 1
    blocking.close()


def have_come(blocking: Blocking, wanted: int) -> bool:
    """Whether so many results wait for the loop."""
    return blocking._landing is not None and len(blocking._landing._come) == wanted


async def test_errors_come_where_the_call_is_awaited() -> None:
    blocking = Blocking("test", 1)
    with pytest.raises(ValueError, match="invalid literal"):
        await blocking(int, "x")
    assert await blocking(int, "10", base=8) == 8
    blocking.close()


async def test_a_result_that_nobody_awaits_any_more_harms_no_other() -> None:
    blocking, gate = Blocking("test", 2), threading.Event()
    late = asyncio.ensure_future(blocking(gate.wait))
    await asyncio.sleep(0)
    late.cancel()
    gate.set()
    assert await blocking(int, "1") == 1
    await asyncio.wait([late])
    assert late.cancelled()
    blocking.close()


def test_one_pool_of_threads_serves_one_loop_after_the_other() -> None:
    blocking = Blocking("test", 1)

    async def call() -> int:
        return await blocking(int, "1")

    assert [asyncio.run(call()) for _ in range(3)] == [1, 1, 1]
    blocking.close()
