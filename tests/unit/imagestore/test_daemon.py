"""A daemon that names images by their manifests, as those with the store of containerd do.

The daemon of this machine is asked in tests/integration.
"""

from __future__ import annotations

import asyncio
import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from tests.imagetars import Made, docker_archive, file, layer, serve
from tests.registry import Registry
from tests.unit.imagestore.conftest import QUICK, NewStore

IMAGE = Made([layer(file("a", b"1"))], ["tar"])


class Daemon(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """``images``: name or id -> what it tells of an image; ``archives``: id -> archive."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self.images: dict[str, object] = {}
        self.archives: dict[str, bytes] = {}
        self.exports: list[str] = []

    def add(self, name: str, id: str, image: Made, **more: object) -> None:
        row = {"Id": id, "Os": image.platform[0], "Architecture": image.platform[1], "Size": 9, **more}
        self.images[name] = self.images[id] = row
        self.archives[id] = docker_archive({"": image})


class _Handler(BaseHTTPRequestHandler):
    server: Daemon

    def address_string(self) -> str:
        return "socket"

    def do_GET(self) -> None:
        path = self.path.removeprefix("/images/")
        if self.path == "/_ping":
            self._answer(200, b"OK")
        elif path.endswith("/json") and path.removesuffix("/json") in self.server.images:
            self._answer(200, json.dumps(self.server.images[path.removesuffix("/json")]).encode())
        elif path.endswith("/get") and path.removesuffix("/get") in self.server.archives:
            self.server.exports.append(path.removesuffix("/get"))
            self._answer(200, self.server.archives[path.removesuffix("/get")])
        else:
            self._answer(404, b'{"message": "No such image"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def daemon(registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(str(tmp_path / "docker.sock")) as daemon:
        thread = threading.Thread(target=daemon.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        yield daemon
        daemon.shutdown()
        thread.join()


NAME = "index.docker.io/library/thing:latest"
ID = "sha256:" + "5" * 64


async def test_images_are_named_by_their_configuration(
    daemon: Daemon, new_store: NewStore, nothing_half_made: Callable[[], None]
) -> None:
    daemon.add(NAME, ID, IMAGE)
    images = await asyncio.gather(*[new_store().ensure("thing") for _ in range(3)])
    assert {(each.id, each.source) for each in images} == {(IMAGE.id, "docker daemon")}
    assert daemon.exports == [ID]
    assert (await new_store().ensure("thing")).id == IMAGE.id
    assert daemon.exports == [ID], "its name for the image is remembered"
    nothing_half_made()


async def test_an_image_that_is_here_under_its_id_is_not_made_again(
    daemon: Daemon, registry: Registry, new_store: NewStore
) -> None:
    serve(registry, IMAGE, "library/other")
    store = new_store()
    first = await store.ensure("other")
    daemon.add(NAME, ID, IMAGE)
    assert (await store.ensure("thing")).root == first.root
    assert len(store.kept()) == 1


async def test_a_newer_image_of_the_daemon_comes_before_one_that_is_remembered(
    daemon: Daemon, new_store: NewStore
) -> None:
    daemon.add(NAME, ID, IMAGE)
    assert (await new_store().ensure("thing")).id == IMAGE.id
    newer = Made([layer(file("a", b"2"))])
    daemon.add(NAME, "sha256:" + "6" * 64, newer)
    assert (await new_store().ensure("thing")).id == newer.id
    daemon.images.clear()
    assert (await new_store().ensure("thing")).id == newer.id


async def test_another_image_of_the_programs_name_is_not_taken(
    daemon: Daemon, registry: Registry, new_store: NewStore
) -> None:
    other = Made([layer(file("other"))])
    serve(registry, other, "library/thing")
    daemon.add(NAME, ID, IMAGE, RepoDigests=[f"thing@sha256:{'7' * 64}"])
    resolved = f"index.docker.io/library/thing@{other.digest}"
    assert (await new_store().ensure(resolved, "thing")).id == other.id
    assert daemon.exports == []


@pytest.mark.parametrize("is_known", [True, False])
async def test_the_same_image_of_the_programs_name_is_taken(
    daemon: Daemon, new_store: NewStore, is_known: bool
) -> None:
    resolved = f"index.docker.io/library/thing@sha256:{'7' * 64}"
    digests = [] if is_known else [f"thing@sha256:{'7' * 64}"]
    daemon.add(NAME, IMAGE.id, IMAGE, RepoDigests=digests)
    known = {resolved: IMAGE.id} if is_known else {}
    image = await new_store(config_digest=known.get).ensure(resolved, "thing")
    assert (image.id, image.source) == (IMAGE.id, "docker daemon")
    assert new_store().find(resolved) is not None


async def test_a_pull_that_the_daemon_has_under_another_name_is_saved(
    daemon: Daemon, registry: Registry, new_store: NewStore
) -> None:
    serve(registry, IMAGE, "library/thing")
    daemon.add("elsewhere/x:1", IMAGE.id, IMAGE)
    assert (await new_store().ensure("thing")).source == "docker daemon"
    assert not [each for each in registry.asked if "/blobs/" in each]


async def test_where_the_daemon_has_another_machines_image_the_registry_is_asked(
    daemon: Daemon, registry: Registry, new_store: NewStore
) -> None:
    daemon.add(NAME, ID, Made(IMAGE.layers, platform=("linux", "arm64")))
    with pytest.raises(ReflowError, match="docker daemon: its image is made for linux/arm64") as caught:
        await new_store().ensure("thing")
    assert caught.value.kind is Kind.NOT_SUPPORTED
    serve(registry, IMAGE, "library/thing")
    assert (await new_store().ensure("thing")).source == "registry index.docker.io"


@pytest.mark.parametrize(
    ("archive", "text"),
    [
        (b"no tar", "docker daemon: no whole tar"),
        (docker_archive({}), "docker daemon: it sends an archive without an image"),
        (docker_archive({"": IMAGE})[:2000], "docker daemon: no whole tar"),
        (docker_archive({"": Made([layer(file("../x"))])}), "docker daemon: layer 1 of 1: malformed"),
    ],
)
async def test_what_the_daemon_sends_is_checked(
    daemon: Daemon, new_store: NewStore, archive: bytes, text: str, nothing_half_made: Callable[[], None]
) -> None:
    daemon.add(NAME, ID, IMAGE)
    daemon.archives[ID] = archive
    with pytest.raises(ReflowError) as caught:
        await new_store().ensure("thing")
    assert text in str(caught.value)
    nothing_half_made()


@pytest.mark.parametrize("row", [[], {}, {"Id": IMAGE.id, "Size": "much"}])
async def test_strange_answers_are_named(daemon: Daemon, new_store: NewStore, row: object) -> None:
    daemon.images[NAME] = row
    with pytest.raises(ReflowError, match="docker daemon: "):
        await new_store().ensure("thing")


async def test_a_remote_daemon_is_not_asked(
    registry: Registry, new_store: NewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    with pytest.raises(ReflowError, match=r"DOCKER_HOST=tcp://10.0.0.1:2375 is not on this machine"):
        await new_store().ensure("thing")
    serve(registry, IMAGE, "library/thing")
    assert (await new_store().ensure("thing")).source == "registry index.docker.io"


async def test_a_socket_that_nobody_listens_at_is_no_daemon(
    daemon: Daemon, registry: Registry, new_store: NewStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "stale").mkdir()
    with Daemon(str(tmp_path / "stale/docker.sock")):
        pass
    assert os.path.exists(tmp_path / "stale/docker.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/stale/docker.sock")
    with pytest.raises(ReflowError, match=r"no daemon at .*stale/docker.sock \(.*connection refused"):
        await new_store(QUICK).ensure("thing")
