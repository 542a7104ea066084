"""Registries that fail, stall or lie."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.job import Job
from reflow.imagestore.manifest import SCHEMA_2
from reflow.imagestore.name import parse_image
from reflow.imagestore.registry import Registry as Client
from reflow.imagestore.registry import fetch_manifest
from reflow.imagestore.store import ImageStore
from reflow.imagestore.transport import Transport
from tests.imagetars import Made, digest_of, file, layer, serve
from tests.registry import Registry, answer, asked, on, sending
from tests.unit.imagestore.conftest import QUICK, THING, NewStore, failure

pytestmark = pytest.mark.usefixtures("thing")


# Trouble that passes, and trouble that does not.


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_trouble_that_passes_is_waited_for(
    registry: Registry, store: ImageStore, part: str, status: int
) -> None:
    registry.behave = on(part, lambda handler: answer(handler, status, Retry_After="0"), 2)
    assert (await store.ensure("thing")).id == THING.id


@pytest.mark.parametrize(
    "part", ["/manifests/", f"/blobs/{THING.id}", f"/blobs/{digest_of(THING.packed[0])}"]
)
async def test_trouble_that_stays_is_given_up(
    registry: Registry, store: ImageStore, part: str, nothing_half_made: Callable[[], None]
) -> None:
    body = b'{"errors": [{"code": "UNKNOWN", "message": "Disk on fire"}]}'
    registry.behave = on(part, lambda handler: answer(handler, 500, body))
    err = await failure(store)
    assert err.kind is Kind.TOO_MANY_TRIES
    assert f"{registry.host}: status 500 (disk on fire) (the last of 3 tries)" in str(err)
    assert asked(registry, part) == 3
    nothing_half_made()


async def test_too_many_requests_say_what_helps(
    registry: Registry, store: ImageStore, tmp_path: Path
) -> None:
    registry.behave = on("/manifests/", lambda handler: answer(handler, 429, Retry_After="3600"))
    started = time.monotonic()
    err = await failure(store)
    assert time.monotonic() - started < 2
    assert err.kind is Kind.TOO_MANY_TRIES
    assert f"too many requests (after docker login {registry.host} it allows more)" in str(err)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, Kind.NOT_EXIST), (400, Kind.INVALID), (403, Kind.NOT_ALLOWED)]
)
async def test_what_will_not_pass_is_not_tried_again(
    registry: Registry, store: ImageStore, status: int, kind: Kind
) -> None:
    registry.behave = on("/blobs/", lambda handler: answer(handler, status))
    assert (await failure(store)).kind is kind
    assert asked(registry, f"/blobs/{THING.id}") == 1


async def test_a_registry_that_is_not_there_is_tried_twice(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, new_store: NewStore
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
    err = await failure(new_store(), f"{host}/a/b")
    assert err.kind is Kind.NOT_EXIST
    assert f"{host} cannot be reached (connection refused)" in str(err)


async def test_a_host_that_has_no_address_is_named(new_store: NewStore) -> None:
    err = await failure(new_store(), "no-such-host.invalid/a/b")
    assert "no-such-host.invalid cannot be reached (" in str(err)


# Silence.


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("begins", [True, False])
async def test_silence_is_given_up(
    registry: Registry, new_store: NewStore, part: str, begins: bool, nothing_half_made: Callable[[], None]
) -> None:
    end = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> bool:
        if begins:
            answer(handler, 200, b"{", Content_Length="5000")
            handler.wfile.flush()
        end.wait(10)
        return True

    registry.behave = on(part, stall)
    store = new_store(QUICK._replace(stall_s=0.2))
    started = time.monotonic()
    try:
        err = await failure(store)
    finally:
        end.set()
    assert time.monotonic() - started < 8
    assert err.kind is Kind.TOO_MANY_TRIES
    assert f"{registry.host}: no answer in time (0.2 s without a byte) (the last of 3 tries)" in str(err)
    nothing_half_made()


async def test_slow_is_not_silent(registry: Registry, new_store: NewStore) -> None:
    blob = THING.packed[0]

    def dribble(handler: BaseHTTPRequestHandler) -> bool:
        answer(handler, 200, Content_Length=str(len(blob)))
        for at in range(0, len(blob), 1000):
            time.sleep(0.25)
            handler.wfile.write(blob[at : at + 1000])
            handler.wfile.flush()
        return True

    registry.behave = on(f"/blobs/{digest_of(blob)}", dribble)
    store = new_store(QUICK._replace(stall_s=1.0))
    assert (await store.ensure("thing")).id == THING.id
    assert asked(registry, "/blobs/") == 3


# Lies.


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "what it sends as sha256:"),
        (lambda data: data[:-1], "bytes, want"),
        (lambda data: data + b"x" * 3_000_000, "has more than"),
        (lambda data: b"", "has only 0 bytes"),
    ],
)
async def test_what_has_another_digest_is_refused(
    registry: Registry,
    store: ImageStore,
    number: int,
    spoil: Callable[[bytes], bytes],
    text: str,
    nothing_half_made: Callable[[], None],
) -> None:
    blob = THING.blobs[number]
    registry.behave = on(digest_of(blob), sending(spoil(blob)))
    err = await failure(store)
    assert err.kind is Kind.INTEGRITY
    assert text in str(err)
    assert digest_of(blob) in str(err)
    assert asked(registry, digest_of(blob)) == 3
    nothing_half_made()


async def test_a_broken_download_is_made_good(registry: Registry, store: ImageStore) -> None:
    blob = THING.packed[0]
    cut = lambda handler: answer(handler, 200, blob[:100], Content_Length=str(len(blob)))  # noqa: E731

    def behave(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if digest_of(blob) not in path or asked(registry, digest_of(blob)) > 2:
            return False
        handler.close_connection = True
        return cut(handler)

    registry.behave = behave
    assert (await store.ensure("thing")).id == THING.id
    assert asked(registry, digest_of(blob)) == 3


async def test_a_manifest_with_another_digest_is_refused(registry: Registry, store: ImageStore) -> None:
    other = Made([layer(file("evil"))])
    serve(registry, other, "library/other")
    registry.manifests[f"library/thing/manifests/{THING.digest}"] = (SCHEMA_2, other.manifest)
    err = await failure(store, f"thing@{THING.digest}")
    assert err.kind is Kind.INTEGRITY
    assert f"what it has as {THING.digest} is {other.digest}" in str(err)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (
            Made([layer(file("../evil"))]),
            "layer 1 of 1: malformed: the path '../evil' leads out of the image",
        ),
        (Made([layer(), b"no tar" * 100], ["gzip", "tar"]), "layer 2 of 2: damaged: "),
        (Made([layer()], diff_ids=[]), "1 layers, and a configuration for 0"),
        (Made([layer()], diff_ids=["sha256:" + "1" * 64]), "layer 1 of 1: unpacks to sha256:"),
    ],
)
async def test_images_that_cannot_be_unpacked_are_refused(
    registry: Registry, store: ImageStore, image: Made, text: str, nothing_half_made: Callable[[], None]
) -> None:
    serve(registry, image, "library/bad")
    err = await failure(store, "bad")
    assert text in str(err)
    assert "registry index.docker.io: " in str(err)
    nothing_half_made()


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"{}", b'{"schemaVersion": 1, "fsLayers": []}', b""])
async def test_what_is_no_manifest_is_refused(registry: Registry, store: ImageStore, body: bytes) -> None:
    registry.behave = on("/manifests/", sending(body))
    err = await failure(store)
    assert err.kind in (Kind.INVALID, Kind.NOT_SUPPORTED)
    assert asked(registry, "/manifests/") == 1


async def test_a_manifest_without_end_is_refused(registry: Registry, store: ImageStore) -> None:
    registry.behave = on("/manifests/", sending(b" " * (5 << 20)))
    assert "the answer has more than 4194304 bytes" in str(await failure(store))


# Keys.


def test_manifests_for_keys_are_asked_for_once(registry: Registry) -> None:
    registry.fail = 500
    with pytest.raises(ImageError, match="status 500"):
        fetch_manifest(parse_image("thing"), registry.host, 3)
    assert asked(registry, "/manifests/") == 1


def test_manifests_for_keys_come_in_time(registry: Registry) -> None:
    registry.behave = on("/manifests/", lambda handler: time.sleep(1) or True)  # type: ignore[func-returns-value]
    started = time.monotonic()
    with pytest.raises(ImageError, match="no answer in time"):
        fetch_manifest(parse_image("thing"), registry.host, 0.2)
    assert time.monotonic() - started < 0.9


def test_a_client_can_be_used_by_several_threads(registry: Registry) -> None:
    registry.token = "t1"
    client = Client(parse_image("thing"), registry.host, Transport(Job(), QUICK))
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(client.manifest("latest"))) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [THING.manifest] * 6
    assert asked(registry, "token?") == 1
