"""Images from real registries, from the daemon of this machine, from files; compared with what docker has."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.imagestore import Image
from reflow.imagestore.store import ImageStore
from tests.command import Workspace
from tests.imagetars import (
    OCI,
    SCHEMA_2,
    Made,
    Pusher,
    device,
    docker_archive,
    file,
    folder,
    hard_link,
    layer,
    link,
)
from tests.waiting import wait_until

REGISTRY = os.environ.get("REGISTRY", "localhost:5000")
REGISTRY_AUTH = os.environ.get("REGISTRY_AUTH", "localhost:5001")
USER = os.environ.get("REGISTRY_USER", "user")
PASSWORD = os.environ.get("REGISTRY_PASSWORD", "secret")
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else, and mount")


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "images"))


@pytest.fixture
def no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-daemon")


def configure_docker(tmp_path: Path, **config: object) -> None:
    (tmp_path / "docker/config.json").write_text(json.dumps(config))


def said(*words: str) -> str:
    """What a command prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def names(image: Image) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(directory, name), image.root)
        for directory, folders, files in os.walk(image.root)
        for name in (*folders, *files)
    )


# A registry.


@pytest.mark.registry
async def test_images_of_docker_hub_come_from_its_stand_in(
    no_daemon: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOW_REGISTRY", REGISTRY)
    image = await ImageStore(str(tmp_path / "images")).ensure("ubuntu")
    assert image.source == "registry index.docker.io"
    assert said(f"{image.root}/usr/bin/bash", "-c", "echo $BASH_VERSION").startswith("5.")


@pytest.mark.registry
async def test_other_registries_are_asked_themselves(no_daemon: None, store: ImageStore) -> None:
    image = await store.ensure(f"{REGISTRY}/biocontainers/bwa:v0.7.15_cv3")
    assert image.source == f"registry {REGISTRY}"
    assert (await store.ensure(f"{REGISTRY}/biocontainers/bwa@{image.digest}")) == image
    with pytest.raises(ReflowError, match="no such image") as caught:
        await store.ensure(f"{REGISTRY}/biocontainers/bwa:nosuch")
    assert caught.value.kind is Kind.NOT_EXIST


LOWER = layer(
    *[folder("etc"), file("etc/gone"), file("etc/kept", b"1"), folder("hidden"), file("hidden/old")],
    *[file("bin/tool", b"#!", 0o4755), hard_link("bin/other", "bin/tool"), link("latest", "bin/tool")],
    device("dev/null"),
)
UPPER = layer(file("etc/.wh.gone"), folder("hidden"), file("hidden/.wh..wh..opq"), file("hidden/new", b"2"))


@pytest.mark.registry
@pytest.mark.parametrize("kind", [SCHEMA_2, OCI])
@pytest.mark.parametrize("how", ["gzip", "zstd"])
async def test_manifests_indexes_and_layers_of_all_kinds(
    no_daemon: None, store: ImageStore, kind: str, how: str
) -> None:
    amd, arm = (
        Made([LOWER, UPPER], ["gzip", how], kind, ("linux", machine), {"Env": [f"M={machine}"]})
        for machine in ("amd64", "arm64")
    )
    name = f"test/kinds-{how}-{'oci' if kind == OCI else 'docker'}"
    Pusher(REGISTRY).push(amd, name, "lone")
    Pusher(REGISTRY).push_index([arm, amd], name, "several")
    lone = await store.ensure(f"{REGISTRY}/{name}:lone")
    several = await store.ensure(f"{REGISTRY}/{name}:several")
    assert lone == several
    assert (lone.env, lone.digest) == (("M=amd64",), amd.digest)
    assert names(lone) == [
        *("bin", "bin/other", "bin/tool", "dev", "etc", "etc/kept", "hidden", "hidden/new", "latest")
    ]
    assert os.stat(f"{lone.root}/bin/tool").st_mode & 0o7777 == 0o755
    assert os.path.samefile(f"{lone.root}/bin/tool", f"{lone.root}/bin/other")
    Pusher(REGISTRY).push_index([arm], name, "arm")
    with pytest.raises(ReflowError, match="made for linux/arm64, and this needs linux/amd64"):
        await store.ensure(f"{REGISTRY}/{name}:arm")


@pytest.mark.registry
async def test_a_registry_with_a_password(no_daemon: None, store: ImageStore, tmp_path: Path) -> None:
    name = f"{REGISTRY_AUTH}/ubuntu"
    with pytest.raises(ReflowError, match=f"docker login {REGISTRY_AUTH}") as caught:
        await store.ensure(name)
    assert caught.value.kind is Kind.NOT_ALLOWED
    wrong = base64.b64encode(b"user:wrong").decode()
    configure_docker(tmp_path, auths={REGISTRY_AUTH: {"auth": wrong}})
    with pytest.raises(ReflowError, match="access denied to user"):
        await store.ensure(name)
    assert store.kept() == []
    configure_docker(tmp_path, auths={REGISTRY_AUTH: {"auth": BASIC}})
    assert (await store.ensure(name)).source == f"registry {REGISTRY_AUTH}"


@pytest.mark.registry
async def test_a_registry_with_a_password_from_a_helper(
    no_daemon: None, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-here"
    answer = json.dumps({"ServerURL": REGISTRY_AUTH, "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\ntest \"$1 $(cat)\" = 'get {REGISTRY_AUTH}' && echo '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    configure_docker(tmp_path, credHelpers={REGISTRY_AUTH: "here"})
    assert (await store.ensure(f"{REGISTRY_AUTH}/alpine")).source == f"registry {REGISTRY_AUTH}"


ENSURE = """
import asyncio, os, sys
import ctypes, encodings.idna
from reflow.imagestore.store import ImageStore
os.setgroups([]); os.setgid(65534); os.setuid(65534)
image = asyncio.run(ImageStore(sys.argv[1]).ensure(sys.argv[2]))
assert {os.lstat(os.path.join(place, name)).st_uid
        for place, folders, files in os.walk(image.root) for name in (*folders, *files)} == {65534}
import shutil
shutil.rmtree(sys.argv[1])
"""


@needs_root
@pytest.mark.registry
def test_an_ordinary_user_unpacks_and_deletes(tmp_path: Path, no_daemon: None) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    for each in (tmp_path, *tmp_path.parents):
        if "pytest" in str(each):
            each.chmod(0o755)
    words = [
        sys.executable,
        "-c",
        ENSURE,
        str(home / "images"),
        f"{REGISTRY}/biocontainers/samtools:v1.7.0_cv2",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []


# The daemon.


@pytest.mark.docker
async def test_images_come_from_the_daemon(store: ImageStore) -> None:
    image = await store.ensure("alpine")
    wanted = said("docker", "image", "inspect", "-f", "{{.Id}}", "alpine")
    assert (image.id, image.source) == (wanted, "docker daemon")
    assert (await store.ensure(image.id.replace("sha256:", "alpine@sha256:"))) == image


def exported(name: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    """What a container of an image sees, but for what docker adds: name -> kind, mode, contents."""
    container = said("docker", "create", name, "true")
    try:
        with (
            subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as running,
            tarfile.open(fileobj=running.stdout, mode="r|") as archive,
        ):
            for member in archive:
                kind = "link" if member.issym() else "folder" if member.isdir() else "file"
                content: object = member.linkname if member.issym() or member.islnk() else ""
                if member.isreg():
                    stream = archive.extractfile(member)
                    assert stream is not None
                    content = hashlib.sha256(stream.read()).hexdigest()
                mode = member.mode & (0o1777 if kind != "link" else 0)
                yield member.name.rstrip("/"), (kind, mode, member.mtime, member.islnk(), content)
    finally:
        subprocess.run(["docker", "rm", container], capture_output=True, check=True)


ADDED = {
    ".dockerenv",
    "dev",
    "etc",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/mtab",
    "proc",
    "sys",
}


@pytest.mark.docker
@pytest.mark.parametrize("name", ["ubuntu", "biocontainers/samtools:v1.9-4-deb_cv1"])
async def test_an_image_is_what_docker_makes_of_it(store: ImageStore, name: str) -> None:
    image = await store.ensure(name)
    wanted = dict(exported(name))
    compared = 0
    for path, (kind, mode, mtime, is_hard, content) in wanted.items():
        if path in ADDED or path.startswith("dev/"):
            continue
        compared += 1
        ours = Path(image.root, path)
        info = ours.lstat()
        if is_hard:
            assert os.path.samefile(ours, Path(image.root, str(content))), path
            continue
        if kind != "folder":  # the layers do not list all
            assert info.st_mtime == mtime, path
        if kind == "link":
            assert os.readlink(ours) == content
        elif kind == "folder":
            assert ours.is_dir()
            assert info.st_mode & 0o7777 == mode | 0o700, path
        else:
            assert info.st_mode & 0o7777 == mode, path
            assert hashlib.sha256(ours.read_bytes()).hexdigest() == content, path
    assert compared > 900
    assert set(names(image)) - set(wanted) == set()


@pytest.mark.docker
@pytest.mark.registry
async def test_the_daemons_copy_is_the_registrys(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = await store.ensure("biocontainers/samtools:v1.9-4-deb_cv1")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-daemon")
    monkeypatch.setenv("REFLOW_REGISTRY", REGISTRY)
    other = ImageStore(str(tmp_path / "other"))
    theirs = await other.ensure("biocontainers/samtools:v1.9-4-deb_cv1")
    assert (ours.id, ours.size_bytes) == (theirs.id, theirs.size_bytes)
    assert said("diff", "-r", "--no-dereference", ours.root, theirs.root) == ""


# A full disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


def used_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_bsize


ZEROS = Made([layer(file("small", b"1")), layer(file("zeros", b"\0" * (20 << 20)))])
NOISE = Made([layer(file("noise", os.urandom(9 << 20)))])


@needs_root
@pytest.mark.registry
@pytest.mark.parametrize("image", [ZEROS, NOISE], ids=["while unpacking", "before"])
async def test_a_full_disk_is_named_and_nothing_is_left(
    no_daemon: None, small_disk: Path, image: Made
) -> None:
    Pusher(REGISTRY).push(image, "test/large", image.id[7:20])
    store = ImageStore(str(small_disk / "images"))
    with pytest.raises(ReflowError) as caught:
        await store.ensure(f"{REGISTRY}/test/large:{image.id[7:20]}")
    assert caught.value.kind is Kind.RESOURCES_EXHAUSTED
    assert str(caught.value).startswith(f"image {REGISTRY}/test/large:")
    assert "of 8.0MiB are free" in str(caught.value)
    assert store.kept() == []
    assert used_bytes(small_disk) < 100_000


@needs_root
async def test_a_full_disk_is_named_when_loading(no_daemon: None, small_disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive({"zeros:1": ZEROS}))
    with pytest.raises(ReflowError, match="are free") as caught:
        await ImageStore(str(small_disk / "images")).load(str(path))
    assert caught.value.kind is Kind.RESOURCES_EXHAUSTED
    assert used_bytes(small_disk) < 100_000


# The command.


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    (tmp_path / "w").mkdir()
    return Workspace(tmp_path / "w")


def test_archives_are_loaded_and_listed(work: Workspace) -> None:
    image = Made([layer(folder("a"), file("a/b", b"x" * 5000))])
    (work.dir / "two.tar").write_bytes(docker_archive({"mine:1": image, "": ZEROS}))
    done = work.reflow("images", "-load", "two.tar").ok()
    short, zeros = image.id[7:19], ZEROS.id[7:19]
    assert sorted(done.out.splitlines()) == [
        f"loaded <no name> {zeros} (20.0MiB)",
        f"loaded mine:1 {short} (4.9KiB)",
    ]
    assert f"image {zeros} has no name" in done.err
    lines = work.reflow("images", "-store").ok().out.splitlines()
    assert lines[-1].split() == ["total", "2", "images", "20.0MiB"]
    (line,) = [each for each in lines if each.startswith("mine:1 ")]
    assert line.split()[:5] == ["mine:1", short, "4.9KiB", "file", f"{work.dir}/two.tar"]


@pytest.mark.docker
def test_what_docker_saves_is_loaded_from_a_pipe(work: Workspace) -> None:
    words = " ".join(work.argv("images", "-load", "-"))
    done = subprocess.run(
        f"docker save alpine | gzip | {words}", shell=True, env=work.env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("loaded alpine:latest ")


def test_bad_archives_and_wrong_usage_are_named(work: Workspace) -> None:
    work.write("bad.tar", "no tar")
    work.reflow("images", "-load", "bad.tar").failed("load images bad.tar: invalid: no whole tar")
    work.reflow("images", "-load", "absent.tar").failed("load images absent.tar: resource does not exist")
    work.reflow("images", "-load", "a", "b", "c").failed("unexpected argument: c", code=2)
    work.reflow("images", "-store", "x").failed("unexpected argument: x", code=2)
    work.reflow("images", "-store", "-load", "x").failed("do not go together", code=2)
    work.reflow("images").failed("got no arguments", code=2)


def test_an_interrupted_load_leaves_nothing(work: Workspace) -> None:
    os.mkfifo(work.dir / "pipe")
    running = work.start("images", "-load", "pipe")
    with running, open(work.dir / "pipe", "wb") as pipe:
        pipe.write(docker_archive({"mine:1": NOISE})[:1_000_000])
        pipe.flush()
        images = work.state / "images/tmp"
        wait_until(lambda: list(images.glob("*/archive")))
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 1
    assert list(images.iterdir()) == []


def test_concurrent_runs_load_one_archive(work: Workspace) -> None:
    (work.dir / "image.tar").write_bytes(docker_archive({"mine:1": NOISE}))

    async def load() -> list[int]:
        words = work.argv("images", "-load", "image.tar")
        running = [
            await asyncio.create_subprocess_exec(*words, cwd=work.dir, env=work.env, stdout=-3)
            for _ in range(3)
        ]
        return [await each.wait() for each in running]

    assert asyncio.run(load()) == [0, 0, 0]
    assert work.reflow("images", "-store").ok().out.splitlines()[-1].split()[1] == "1"
