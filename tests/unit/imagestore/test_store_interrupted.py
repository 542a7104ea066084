"""What is left when whoever fetches an image is cancelled or killed: nothing."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.imagetars import (
    Made,
    file,
    layer,
    serve,
)
from tests.registry import Registry
from tests.unit.imagestore.conftest import HUB, QUICK, NewStore, start_ensuring


def stalling(registry: Registry, seconds: float = 30) -> threading.Event:
    """Let layers stop in the middle of their bytes; set when the first one does."""
    begun = threading.Event()

    def behave(handler: BaseHTTPRequestHandler, path: str) -> bool:
        blob = registry.blobs.get(path.rpartition("/")[2], b"")
        if "/blobs/" not in path or len(blob) < 1000:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(blob)))
        handler.end_headers()
        handler.wfile.write(blob[:500])
        handler.wfile.flush()
        begun.set()
        handler.connection.settimeout(seconds)
        handler.rfile.read(1)
        return True

    registry.behave = behave
    return begun


async def test_cancelling_is_quick_and_leaves_nothing(
    registry: Registry, new_store: NewStore, nothing_half_made: Callable[[], None]
) -> None:
    serve(registry, Made([layer(file("f", os.urandom(100_000)))]), "library/thing")
    begun = stalling(registry)
    store = new_store(QUICK._replace(stall_s=30))
    wanting = asyncio.create_task(store.ensure("thing"))
    await asyncio.to_thread(begun.wait, 10)
    started = time.monotonic()
    wanting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wanting
    assert time.monotonic() - started < 4
    nothing_half_made()
    registry.behave = None
    assert (await store.ensure("thing")).source == f"registry {HUB}"


async def test_cancelling_whoever_waits_for_another_run_is_quick(
    registry: Registry, new_store: NewStore
) -> None:
    serve(registry, Made([layer(file("f", os.urandom(100_000)))]), "library/thing")
    begun = stalling(registry)
    patient = QUICK._replace(stall_s=30)
    first = asyncio.create_task(new_store(patient).ensure("thing"))
    await asyncio.to_thread(begun.wait, 10)
    is_waiting = asyncio.Event()

    def progress(what: str, done: int, total: int) -> None:
        if what == "pulling image thing: waiting for another run that does it":
            is_waiting.set()

    second = asyncio.create_task(new_store(patient).ensure("thing", progress=progress))
    await asyncio.wait_for(is_waiting.wait(), 10)
    for each in (second, first):
        each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await each


def test_what_a_killed_run_left_is_swept_away(
    registry: Registry, new_store: NewStore, tmp_path: Path, nothing_half_made: Callable[[], None]
) -> None:
    serve(registry, Made([layer(file("f", os.urandom(100_000)))]), "library/thing")
    begun = stalling(registry)
    with start_ensuring(tmp_path, "thing") as running:
        begun.wait(20)
        running.kill()
    assert list((tmp_path / "images/tmp").iterdir())
    registry.behave = None
    asyncio.run(new_store().ensure("thing"))
    nothing_half_made()
