"""Images that are loaded from archives."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.imagestore.store import ImageStore
from tests.imagetars import (
    Made,
    docker_archive,
    file,
    layer,
    link,
    oci_archive,
    serve,
)
from tests.registry import Registry
from tests.unit.imagestore.conftest import HUB, IMAGE


@pytest.mark.parametrize("archive", [docker_archive, oci_archive])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_archives_are_loaded(
    store: ImageStore,
    tmp_path: Path,
    archive: Callable[[dict[str, Made]], bytes],
    pack: Callable[[bytes], bytes],
    nothing_half_made: Callable[[], None],
) -> None:
    other = Made([layer(file("x", b"12"))], ["zstd"])
    path = tmp_path / "images.tar"
    path.write_bytes(pack(archive({"thing:v1": IMAGE, "quay.io/a/b:2": other})))
    kept = await store.load(str(path))
    assert {(row.id, row.names) for row in kept} == {
        (IMAGE.id, (f"{HUB}/library/thing:v1",)),
        (other.id, ("quay.io/a/b:2",)),
    }
    assert {row.source for row in kept} == {f"file {path}"}
    found = store.find("thing:v1")
    assert found is not None
    assert sorted(os.listdir(found.root)) == ["bin", "new"]
    assert (await store.ensure("quay.io/a/b:2")).size_bytes == 2
    nothing_half_made()


async def test_a_loaded_image_comes_before_the_registrys(
    registry: Registry, store: ImageStore, tmp_path: Path
) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive({"thing:latest": IMAGE}))
    await store.load(str(path))
    serve(registry, Made([layer(file("x"))]), "library/thing")
    assert (await store.ensure("thing")).id == IMAGE.id
    assert registry.asked == []


async def test_a_loaded_image_is_not_taken_for_another_digest(
    registry: Registry, store: ImageStore, tmp_path: Path
) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive({"thing:latest": IMAGE}))
    await store.load(str(path))
    other = Made([layer(file("x"))])
    serve(registry, other, "library/thing")
    assert (await store.ensure(f"{HUB}/library/thing@{other.digest}", "thing")).id == other.id


async def test_a_name_can_be_given(store: ImageStore, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(oci_archive({"latest": IMAGE}))
    (kept,) = await store.load(str(path))
    assert kept.names == ()
    (kept,) = await store.load(str(path), "mine:1")
    assert kept.names == (f"{HUB}/library/mine:1",)
    path.write_bytes(docker_archive({"a:1": IMAGE, "b:1": Made([layer(file("x"))])}))
    with pytest.raises(ReflowError, match="has 2 images, and a name is for one"):
        await store.load(str(path), "mine:1")
    path.write_bytes(docker_archive({"": IMAGE}))
    for name in ("NO", f"a@{IMAGE.digest}"):
        with pytest.raises(ReflowError, match=name):
            await store.load(str(path), name)


async def test_layers_that_docker_saved_before_are_links(store: ImageStore, tmp_path: Path) -> None:
    image = Made([IMAGE.layers[0], IMAGE.layers[0]], ["tar", "tar"])
    rows = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    data = json.dumps(rows).encode()
    entries = [
        file("a/layer.tar", image.layers[0]),
        link("b/layer.tar", "../a/layer.tar"),
        file("c.json", image.config),
        file("manifest.json", data),
    ]
    path = tmp_path / "image.tar"
    path.write_bytes(layer(*entries))
    (kept,) = await store.load(str(path))
    assert kept.id == image.id


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "no whole tar"),
        (b"text" * 1000, "no whole tar"),
        (layer(file("bin/sh")), "no manifest.json, no index.json"),
        (layer(file("manifest.json", b"{")), "manifest.json is no JSON"),
        (layer(file("manifest.json", b"{}")), "manifest.json is not as it should be"),
        (layer(file("manifest.json", b"[]")), "it has no image"),
        (layer(file("manifest.json", b'[{"Config": "x", "Layers": []}]')), "it has no file 'x'"),
        (layer(file("manifest.json", b'[{"Config": 3}]')), "manifest.json is not as it should be"),
        (layer(file("index.json", b"{}")), "a descriptor is no object"),
        (docker_archive({"thing:v1": IMAGE})[:-12_000], "no whole tar"),
        (gzip.compress(docker_archive({"thing:v1": IMAGE}))[:-50], "its gzip ends early"),
        (docker_archive({"thing": Made(IMAGE.layers, platform=("linux", "arm64"))}), "made for linux/arm64"),
        (docker_archive({"thing": Made(IMAGE.layers, diff_ids=[])}), "2 layers, and a configuration for 0"),
        (
            docker_archive({"thing": Made(IMAGE.layers, diff_ids=["sha256:" + "0" * 64] * 2)}),
            "layer 1 of 2: unpacks to",
        ),
        (docker_archive({"thing": Made([layer(file("../../evil"))])}), "leads out of the image"),
        (docker_archive({"NO NAME": IMAGE}), "NO NAME"),
    ],
)
async def test_bad_archives_are_refused(
    store: ImageStore, tmp_path: Path, data: bytes, text: str, nothing_half_made: Callable[[], None]
) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(data)
    with pytest.raises(ReflowError, match=f"^load images {path}: ") as caught:
        await store.load(str(path))
    assert text in str(caught.value)
    assert store.kept() == []
    nothing_half_made()


async def test_a_blob_of_a_layout_that_is_another_one_is_refused(store: ImageStore, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    data = oci_archive({"a:1": IMAGE})
    path.write_bytes(data.replace(b'"X=1"', b'"X=2"'))
    with pytest.raises(ReflowError, match="damaged: what it has as sha256:") as caught:
        await store.load(str(path))
    assert caught.value.kind is Kind.INTEGRITY


async def test_an_archive_that_is_not_there_is_named(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(ReflowError, match=r"load images .*/absent.tar: resource does not exist") as caught:
        await store.load(str(tmp_path / "absent.tar"))
    assert caught.value.kind is Kind.NOT_EXIST
    with pytest.raises(ReflowError, match="directory"):
        await store.load(str(tmp_path))
