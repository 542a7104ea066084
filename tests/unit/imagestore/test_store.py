"""Images made available: found, fetched, unpacked once, remembered, removed."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.imagestore.store import ImageStore
from tests.imagetars import (
    Made,
    device,
    digest_of,
    docker_archive,
    file,
    folder,
    layer,
    link,
    oci_archive,
    serve,
    serve_index,
)
from tests.registry import Registry
from tests.unit.imagestore.conftest import QUICK, NewStore

SETTINGS = {"Env": ["PATH=/bin", "X=1"], "WorkingDir": "/work", "Entrypoint": ["/e"], "Cmd": ["c"]}
IMAGE = Made(
    [
        layer(folder("bin"), file("bin/sh", b"#!", 0o755), file("old")),
        layer(file(".wh.old"), file("new", b"1")),
    ],
    settings=SETTINGS,
)
HUB = "index.docker.io"


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


ENSURE = """
import asyncio, sys
from reflow.imagestore.store import ImageStore
print(asyncio.run(ImageStore(sys.argv[1]).ensure(sys.argv[2])).id)
"""


def start(tmp_path: Path, name: str) -> subprocess.Popen[str]:
    """A process that wants an image."""
    words = [sys.executable, "-c", ENSURE, str(tmp_path / "images"), name]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_two_processes_unpack_an_image_once(
    registry: Registry, tmp_path: Path, nothing_half_made: Callable[[], None]
) -> None:
    big = Made([layer(*[file(f"d{n}/f", os.urandom(20_000)) for n in range(100)])])
    serve(registry, big, "library/thing")
    running = [start(tmp_path, "thing") for _ in range(3)]
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


# Interruption.


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
    with start(tmp_path, "thing") as running:
        begun.wait(20)
        running.kill()
    assert list((tmp_path / "images/tmp").iterdir())
    registry.behave = None
    asyncio.run(new_store().ensure("thing"))
    nothing_half_made()


# Loading.


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


# Lists and removal.


async def test_kept_images_are_listed(registry: Registry, store: ImageStore, new_store: NewStore) -> None:
    assert store.kept() == []
    serve(registry, IMAGE, "library/thing")
    before = time.time()
    await store.ensure("thing")
    (kept,) = store.kept()
    assert (kept.id, kept.names, kept.size_bytes, kept.files) == (
        IMAGE.id,
        (f"{HUB}/library/thing:latest",),
        3,
        3,
    )
    assert before - 1 <= kept.unpacked_s <= kept.used_s <= time.time()
    assert kept.is_used
    await store.close()
    assert not new_store().kept()[0].is_used


def age(tmp_path: Path, seconds: float) -> None:
    """Let all images be unpacked and used that long ago."""
    then = time.time() - seconds
    for path in (tmp_path / "images").glob("sha256/*/about.json"):
        row = json.loads(path.read_text())
        path.write_text(json.dumps({**row, "unpacked_s": then}))
    for path in (tmp_path / "images/locks").iterdir():
        os.utime(path, (then, then))


async def test_what_nobody_used_lately_is_collected(
    registry: Registry, store: ImageStore, new_store: NewStore, tmp_path: Path
) -> None:
    serve(registry, IMAGE, "library/thing")
    await store.ensure("thing")
    age(tmp_path, 10 * 86400)
    other = new_store()
    assert other.collect(time.time()) == [], "it is in use"
    await store.close()
    assert other.collect(time.time() - 20 * 86400) == [], "it was used after that"
    assert [row.id for row in other.collect(time.time(), dry_run=True)] == [IMAGE.id]
    assert [row.id for row in other.collect(time.time())] == [IMAGE.id]
    assert (other.kept(), other.find(f"thing@{IMAGE.digest}")) == ([], None)
    assert sorted(os.listdir(tmp_path / "images/locks")) == []
    assert (await other.ensure("thing")).id == IMAGE.id


async def test_there_is_a_day_of_grace(registry: Registry, store: ImageStore, tmp_path: Path) -> None:
    serve(registry, IMAGE, "library/thing")
    await store.ensure("thing")
    await store.close()
    age(tmp_path, 86400 - 60)
    assert store.collect(time.time()) == []
    age(tmp_path, 86400 + 60)
    assert len(store.collect(time.time())) == 1


async def test_use_makes_an_image_young_again(
    registry: Registry, store: ImageStore, new_store: NewStore, tmp_path: Path
) -> None:
    serve(registry, IMAGE, "library/thing")
    await store.ensure("thing")
    await store.close()
    age(tmp_path, 10 * 86400)
    other = new_store()
    await other.ensure("thing")
    await other.close()
    assert other.collect(time.time()) == []


AS_SOMEBODY = """
import asyncio, os, sys
from reflow.imagestore.store import ImageStore
os.setgid(65534); os.setuid(65534)
store = ImageStore(sys.argv[1])
print(store.find(sys.argv[2]).id, asyncio.run(store.ensure(sys.argv[2], "newname:1")).id)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_users_store_can_be_read(registry: Registry, new_store: NewStore, tmp_path: Path) -> None:
    serve(registry, IMAGE, "library/thing")
    asyncio.run(new_store().ensure("thing"))
    for each in (tmp_path, *tmp_path.parents):
        if "pytest" in str(each):
            each.chmod(0o755)
    name = f"{HUB}/library/thing@{IMAGE.digest}"
    words = [sys.executable, "-c", AS_SOMEBODY, str(tmp_path / "images"), name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [IMAGE.id, IMAGE.id], done.stderr


def test_digests_are_of_bytes() -> None:
    assert digest_of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
