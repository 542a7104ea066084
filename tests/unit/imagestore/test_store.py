"""Images made available: found, fetched, unpacked once, remembered, removed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.imagestore.store import ImageStore
from tests.imagetars import (
    Made,
    device,
    digest_of,
    file,
    layer,
    serve,
    serve_index,
)
from tests.registry import Registry
from tests.unit.imagestore.conftest import HUB, IMAGE, QUICK, NewStore, start_ensuring


def blob_requests(registry: Registry) -> list[str]:
    return [each for each in registry.asked if "/blobs/" in each]


async def test_images_come_from_the_registry(registry: Registry, store: ImageStore) -> None:
    serve(registry, IMAGE, "library/thing")
    image = await store.ensure("thing")
    assert (image.id, image.digest, image.source) == (IMAGE.id, IMAGE.digest, f"registry {HUB}")
    assert (image.env, image.working_dir) == (("PATH=/bin", "X=1"), "/work")
    assert (image.entrypoint, image.cmd) == (("/e",), ("c",))
    assert (image.os, image.architecture, image.size_bytes) == ("linux", "amd64", 3)
    assert sorted(os.listdir(image.root)) == ["bin", "new"]


@pytest.mark.parametrize("how", ["gzip", "zstd", "tar"])
async def test_layers_may_be_packed_as_they_like(registry: Registry, store: ImageStore, how: str) -> None:
    serve(registry, Made(IMAGE.layers, [how, "gzip"]), "library/thing")
    image = await store.ensure("thing")
    assert sorted(os.listdir(image.root)) == ["bin", "new"]


async def test_an_image_is_fetched_once(registry: Registry, store: ImageStore, new_store: NewStore) -> None:
    serve(registry, IMAGE, "library/thing")
    images = await asyncio.gather(*[store.ensure("thing") for _ in range(3)], store.ensure("thing:latest"))
    assert len({image.root for image in images}) == 1
    assert len(blob_requests(registry)) == 3
    await store.close()
    asked = len(registry.asked)
    again = await new_store().ensure(f"{HUB}/library/thing@{IMAGE.digest}", "thing")
    assert again == images[0]
    assert len(registry.asked) == asked


async def test_two_stores_unpack_an_image_once(
    registry: Registry, new_store: NewStore, tmp_path: Path
) -> None:
    serve(registry, IMAGE, "library/thing")
    stores = [new_store() for _ in range(4)]
    images = await asyncio.gather(*[store.ensure("thing") for store in stores])
    assert len(set(images)) == 1
    assert len(blob_requests(registry)) == 3


def test_two_processes_unpack_an_image_once(
    registry: Registry, tmp_path: Path, nothing_half_made: Callable[[], None]
) -> None:
    big = Made([layer(*[file(f"d{n}/f", os.urandom(20_000)) for n in range(100)])])
    serve(registry, big, "library/thing")
    running = [start_ensuring(tmp_path, "thing") for _ in range(3)]
    assert [each.communicate()[0].strip() for each in running] == [big.id] * 3
    assert len(blob_requests(registry)) == 2
    nothing_half_made()


async def test_the_same_layer_twice_is_fetched_once(registry: Registry, store: ImageStore) -> None:
    one = layer(file("a", b"1"))
    serve(registry, Made([one, layer(file("a", b"2")), one]), "library/thing")
    image = await store.ensure("thing")
    assert Path(image.root, "a").read_bytes() == b"1"
    assert len(blob_requests(registry)) == 3


async def test_an_index_has_an_image_for_this_machine(registry: Registry, store: ImageStore) -> None:
    arm = Made(IMAGE.layers, platform=("linux", "arm64"))
    index = serve_index(registry, [arm, IMAGE], "library/multi")
    assert (await store.ensure("multi")).id == IMAGE.id
    assert (await store.ensure(f"multi@{index}")).id == IMAGE.id
    found = store.find(f"multi@{index}")
    assert found is not None
    assert found.digest == IMAGE.digest


@pytest.mark.parametrize("is_index", [True, False])
async def test_images_of_other_machines_are_refused(
    registry: Registry, store: ImageStore, is_index: bool, nothing_half_made: Callable[[], None]
) -> None:
    arm = Made(IMAGE.layers, platform=("linux", "arm64"))
    if is_index:
        serve_index(registry, [arm], "library/thing")
    else:
        serve(registry, arm, "library/thing")
    with pytest.raises(ReflowError, match="made for linux/arm64, and this") as caught:
        await store.ensure("thing")
    assert caught.value.kind is Kind.NOT_SUPPORTED
    assert store.kept() == []
    nothing_half_made()


async def test_an_unknown_image_says_what_was_tried(
    registry: Registry, store: ImageStore, tmp_path: Path
) -> None:
    with pytest.raises(ReflowError) as caught:
        await store.ensure("nosuch")
    assert caught.value.kind is Kind.NOT_EXIST
    assert str(caught.value) == (
        f"image nosuch: resource does not exist: not in the image store ({tmp_path}/images);"
        f" docker daemon: no daemon at {tmp_path}/no-daemon; {registry.host}: no such image;"
        " check the name, or save the image where it is (docker save -o FILE.tar NAME) and load it here:"
        " reflow images -load FILE.tar"
    )


async def test_those_that_wait_for_a_failure_share_it(registry: Registry, store: ImageStore) -> None:
    registry.fail = 500
    wanting = [store.ensure("nosuch") for _ in range(20)]
    found = await asyncio.gather(*wanting, return_exceptions=True)
    assert {type(each) for each in found} == {ReflowError}
    assert len(registry.asked) == QUICK.tries
    with pytest.raises(ReflowError):
        await store.ensure("nosuch")
    assert len(registry.asked) == 2 * QUICK.tries


async def test_malformed_names_are_refused(store: ImageStore) -> None:
    for name in ("UPPER", "", "a@sha256:1"):
        with pytest.raises(ReflowError) as caught:
            await store.ensure(name)
        assert caught.value.kind is Kind.INVALID


async def test_progress_adds_up(registry: Registry, store: ImageStore) -> None:
    big = Made([layer(file("f", os.urandom(3_000_000))), layer(file("g", os.urandom(2_000_000)))])
    serve(registry, big, "library/thing")
    told: list[tuple[str, int, int]] = []
    await store.ensure("thing", progress=lambda *row: told.append(row))
    assert told[0][0] == f"asking {HUB} for image thing"
    assert {row[0] for row in told[1:]} <= {"pulling image thing", "unpacking image thing"}
    total = sum(len(each) for each in big.packed)
    assert all(0 <= done <= most for _, done, most in told)
    assert {most for _, _, most in told[1:]} == {total}


async def test_devices_are_said_to_be_left_out(registry: Registry, new_store: NewStore) -> None:
    serve(registry, Made([layer(device("dev/null"), device("dev/zero"))]), "library/thing")
    said: list[str] = []
    await new_store(inform=said.append).ensure("thing")
    assert said == ["image thing: left out 2 devices (dev/null, dev/zero)"]


# Names.


async def test_a_name_is_remembered_for_when_nobody_answers(
    registry: Registry, store: ImageStore, new_store: NewStore
) -> None:
    serve(registry, IMAGE, "library/thing")
    await store.ensure(f"{HUB}/library/thing@{IMAGE.digest}", "thing")
    registry.fail = 500
    assert (await new_store().ensure("thing")).id == IMAGE.id


async def test_the_id_of_a_resolved_name_may_be_known(
    registry: Registry, store: ImageStore, new_store: NewStore
) -> None:
    serve(registry, IMAGE, "library/thing")
    await store.ensure("thing")
    other = f"{HUB}/library/thing@sha256:{'12' * 32}"
    assert store.find(other) is None
    knowing = new_store(config_digest={other: IMAGE.id}.get)
    found = knowing.find(other)
    assert found is not None
    assert found.id == IMAGE.id
    assert (await knowing.ensure(other)).id == IMAGE.id
    assert store.find(other) == found


async def test_one_image_of_two_names_is_unpacked_once(registry: Registry, store: ImageStore) -> None:
    serve(registry, IMAGE, "library/thing", "one")
    serve(registry, IMAGE, "library/other", "two")
    assert (await store.ensure("thing:one")) == (await store.ensure("other:two"))
    assert len(blob_requests(registry)) == 3
    (kept,) = store.kept()
    assert kept.names == (f"{HUB}/library/other:two", f"{HUB}/library/thing:one")


async def test_find_asks_nobody(registry: Registry, store: ImageStore, new_store: NewStore) -> None:
    serve(registry, IMAGE, "library/thing")
    assert store.find("thing") is None
    assert store.find("NO NAME") is None
    assert registry.asked == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"names": 3, "digests": {"x": 1}}'])
async def test_a_damaged_index_is_made_again(
    registry: Registry, store: ImageStore, new_store: NewStore, tmp_path: Path, text: str
) -> None:
    serve(registry, IMAGE, "library/thing")
    await store.ensure("thing")
    (tmp_path / "images/index.json").write_text(text)
    fetched = len(blob_requests(registry))
    assert (await new_store().ensure("thing")).id == IMAGE.id
    assert len(blob_requests(registry)) == fetched
    assert json.loads((tmp_path / "images/index.json").read_text())["names"]


@pytest.mark.parametrize("part", ["config.json", "about.json", "root"])
async def test_an_image_that_is_not_whole_is_unpacked_again(
    registry: Registry, store: ImageStore, new_store: NewStore, tmp_path: Path, part: str
) -> None:
    serve(registry, IMAGE, "library/thing")
    root = Path((await store.ensure("thing")).root)
    (root.parent / part).rename(tmp_path / "taken")
    store.forget("thing")
    assert (await store.ensure("thing")).root == str(root)
    assert sorted(os.listdir(root)) == ["bin", "new"]
    assert (await new_store().ensure("thing")).root == str(root)


def test_digests_are_of_bytes() -> None:
    assert digest_of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
