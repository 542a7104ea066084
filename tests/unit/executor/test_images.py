"""Digests of images, asked of a registry in this process."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.executor import images
from reflow.executor.images import ImageDigests
from tests.registry import Registry, running_registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with running_registry() as registry:
        monkeypatch.setenv("REFLOW_REGISTRY", registry.host)
        yield registry


def manifest_requests(registry: Registry) -> list[str]:
    return [each for each in registry.asked if "/manifests/" in each]


async def test_names_of_docker_hub_are_asked_of_its_stand_in(registry: Registry, tmp_path: Path) -> None:
    manifest, config = registry.add_image("library/ubuntu")
    digests = ImageDigests(tmp_path)
    resolved = await digests.resolve("ubuntu")
    assert resolved == f"index.docker.io/library/ubuntu@{manifest}"
    assert digests.config_digest(resolved) == config


async def test_an_image_is_asked_for_once(registry: Registry, tmp_path: Path) -> None:
    registry.add_image("library/ubuntu")
    digests = ImageDigests(tmp_path)
    assert len({await each for each in [digests.resolve("ubuntu") for _ in range(3)]}) == 1
    await asyncio.gather(*[digests.resolve("ubuntu:latest") for _ in range(3)])
    assert len(manifest_requests(registry)) == 1


async def test_answers_are_remembered_for_ten_minutes(registry: Registry, tmp_path: Path) -> None:
    manifest, _ = registry.add_image("library/ubuntu")
    await ImageDigests(tmp_path).resolve("ubuntu")
    registry.fail = 500
    assert await ImageDigests(tmp_path).resolve("ubuntu") == f"index.docker.io/library/ubuntu@{manifest}"
    path = tmp_path / "image-digests.json"
    rows = json.loads(path.read_text())
    for row in rows.values():
        row["time"] -= 601
    path.write_text(json.dumps(rows))
    assert await ImageDigests(tmp_path).resolve("ubuntu") is None


async def test_another_hub_is_another_answer(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add_image("library/ubuntu")
    await ImageDigests(tmp_path).resolve("ubuntu")
    monkeypatch.setenv("REFLOW_REGISTRY", "localhost:1")
    assert await ImageDigests(tmp_path).resolve("ubuntu") is None


async def test_a_registry_that_is_not_there_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOW_REGISTRY", "localhost:1")
    said: list[str] = []
    digests = ImageDigests(tmp_path, said.append)
    assert await digests.resolve("ubuntu") is None
    assert await digests.resolve("debian") is None
    assert len(said) == 1
    assert said[0].startswith("image ubuntu: its digest is unknown (localhost:1 cannot be reached")


async def test_a_registry_that_hangs_costs_three_seconds_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("REFLOW_REGISTRY", f"127.0.0.1:{server.getsockname()[1]}")
        started = time.monotonic()
        assert await ImageDigests(tmp_path).resolve("ubuntu") is None
    assert time.monotonic() - started < 2


async def test_names_with_a_digest_need_no_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLOW_REGISTRY", "localhost:1")
    digest = "sha256:" + "ab" * 32
    resolved = await ImageDigests(tmp_path).resolve(f"ubuntu:x@{digest}")
    assert resolved == f"index.docker.io/library/ubuntu@{digest}"


async def test_lists_stand_for_their_amd64_image(registry: Registry, tmp_path: Path) -> None:
    manifest, config = registry.add_image("library/multi", "amd")
    other, _ = registry.add_image("library/multi", "arm", {"arm": b"x"})
    registry.add_list(
        "library/multi",
        "latest",
        [
            {"digest": other, "platform": {"architecture": "arm64", "os": "linux"}},
            {"digest": manifest, "platform": {"architecture": "amd64", "os": "linux"}},
        ],
    )
    digests = ImageDigests(tmp_path)
    resolved = await digests.resolve("multi")
    assert resolved == f"index.docker.io/library/multi@{manifest}"
    assert digests.config_digest(resolved) == config


async def test_tokens_are_fetched(registry: Registry, tmp_path: Path) -> None:
    manifest, _ = registry.add_image("a/b")
    registry.token = "secret"
    assert await ImageDigests(tmp_path).resolve("a/b:latest") == f"index.docker.io/a/b@{manifest}"


async def test_other_registries_are_asked_themselves(registry: Registry, tmp_path: Path) -> None:
    manifest, _ = registry.add_image("a/b")
    assert await ImageDigests(None).resolve(f"{registry.host}/a/b") == f"{registry.host}/a/b@{manifest}"


async def test_an_image_that_the_registry_has_not_is_as_written(registry: Registry) -> None:
    said: list[str] = []
    assert await ImageDigests(None, said.append).resolve("nosuch") is None
    assert "no such image" in said[0]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
async def test_a_damaged_memory_is_forgotten(registry: Registry, tmp_path: Path, content: str) -> None:
    manifest, _ = registry.add_image("library/ubuntu")
    (tmp_path / "image-digests.json").write_text(content)
    assert await ImageDigests(tmp_path).resolve("ubuntu") == f"index.docker.io/library/ubuntu@{manifest}"


async def test_malformed_names_are_left_to_whoever_runs_them(tmp_path: Path) -> None:
    assert await ImageDigests(tmp_path).resolve("NO SUCH") is None
