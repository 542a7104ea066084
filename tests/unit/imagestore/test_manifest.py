"""Manifests, indexes and configurations, and which machines they are for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.manifest import (
    OCI,
    SCHEMA_2,
    Descriptor,
    Entry,
    Index,
    Manifest,
    check_platform,
    choose_entry,
    digest_of,
    parse_config,
    parse_manifest,
)
from reflow.imagestore.platform import AMD64, Platform, local_platform
from tests.imagetars import Made, file, index_of, layer

D = "sha256:" + "ab" * 32
IMAGE = Made([layer(file("a")), layer(file("b"))])


@pytest.mark.parametrize("kind", [SCHEMA_2, OCI])
def test_manifests_list_layers_in_order(kind: str) -> None:
    image = Made(IMAGE.layers, kind=kind)
    manifest = parse_manifest(image.manifest)
    assert isinstance(manifest, Manifest)
    assert manifest.digest == digest_of(image.manifest)
    assert manifest.config == Descriptor(image.id, len(image.config))
    assert [each.digest for each in manifest.layers] == [digest_of(each) for each in image.packed]


def test_indexes_list_machines() -> None:
    arm = Made(IMAGE.layers, platform=("linux", "arm64"))
    found = parse_manifest(index_of([arm, IMAGE]))
    assert isinstance(found, Index)
    assert [str(each.platform) for each in found.entries] == ["linux/arm64", "linux/amd64"]
    assert choose_entry(found.entries, AMD64) == IMAGE.digest
    assert choose_entry(found.entries, Platform("linux", "arm64")) == arm.digest


def entry(system: str, architecture: str, number: int) -> Entry:
    return Entry(f"sha256:{number:064}", Platform(system, architecture), {})


def test_the_image_for_this_machine_comes_before_one_that_also_runs() -> None:
    entries = [entry("linux", "386", 1), entry("linux", "amd64", 2), entry("windows", "amd64", 3)]
    assert choose_entry(entries, AMD64) == f"sha256:{2:064}"
    assert choose_entry(entries[:1], AMD64) == f"sha256:{1:064}"


def test_attestations_are_no_images() -> None:
    entries = [entry("unknown", "unknown", 1), entry("linux", "arm64", 2)]
    with pytest.raises(ImageError, match="made for linux/arm64, and this needs linux/amd64") as caught:
        choose_entry(entries, AMD64)
    assert caught.value.kind is Kind.NOT_SUPPORTED
    with pytest.raises(ImageError, match="made for nothing"):
        choose_entry([], AMD64)


def test_a_lone_image_that_does_not_say_is_taken() -> None:
    assert choose_entry([entry("", "", 1)], AMD64) == f"sha256:{1:064}"


def test_configurations_have_what_execs_need() -> None:
    settings = {
        "Env": ["PATH=/bin", "A=b=c"],
        "WorkingDir": "/w",
        "Entrypoint": ["/e"],
        "Cmd": ["c"],
        "User": "u",
    }
    image = Made(IMAGE.layers, settings=settings)
    config = parse_config(image.config)
    assert config.id == digest_of(image.config)
    assert config.diff_ids == tuple([digest_of(each) for each in image.layers])
    assert config.env == ("PATH=/bin", "A=b=c")
    assert (config.working_dir, config.entrypoint, config.cmd, config.user) == ("/w", ("/e",), ("c",), "u")


@pytest.mark.parametrize("config", [{"rootfs": {"type": "layers"}}, {"rootfs": {}, "config": None}])
def test_configurations_may_say_little(config: dict[str, Any]) -> None:
    found = parse_config(json.dumps(config).encode())
    assert found.diff_ids == ()
    check_platform(found, AMD64)


def test_other_machines_are_named() -> None:
    config = parse_config(Made([], platform=("linux", "s390x")).config)
    with pytest.raises(ImageError, match="made for linux/s390x, and this machine is linux/amd64") as caught:
        check_platform(config, AMD64)
    assert caught.value.kind is Kind.NOT_SUPPORTED


def test_this_machine_is_in_gos_words() -> None:
    assert local_platform().os == "linux"
    assert local_platform().architecture not in ("x86_64", "aarch64")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"\xff\xfe", "no JSON"),
        (b"{}", "a descriptor is no object"),
        (b'{"config": {"digest": "md5:1", "size": 1}}', "a digest is 'md5:1'"),
        (b'{"config": {"digest": "../../etc/passwd"}}', "a digest is '../../etc/passwd'"),
        (b'{"config": {"digest": "%s", "size": "9"}}' % D.encode(), "a size is '9'"),
        (b'{"layers": {}}', "layers is {}"),
        (b'{"layers": [1]}', "a descriptor is no object"),
        (b'{"manifests": [{"digest": 1}]}', "a digest is 1"),
        (b'{"manifests": [[]]}', "an entry of an index is no object"),
    ],
)
def test_malformed_manifests_are_refused(body: bytes, text: str) -> None:
    with pytest.raises(ImageError, match="malformed") as caught:
        parse_manifest(body)
    assert text in str(caught.value)
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"rootfs": {"diff_ids": ["x"]}}', b'{"rootfs": {"diff_ids": 3}}', b'{"rootfs": {}, "os": 3}'],
)
def test_malformed_configurations_are_refused(body: bytes) -> None:
    with pytest.raises(ImageError, match="malformed"):
        parse_config(body)


def test_what_is_no_image_is_said_to_be_none() -> None:
    with pytest.raises(ImageError, match="no image of a container") as caught:
        parse_config(b"{}")
    assert caught.value.kind is Kind.NOT_SUPPORTED
    with pytest.raises(ImageError, match="schema 1") as caught:
        parse_manifest(b'{"schemaVersion": 1, "fsLayers": []}')
    assert caught.value.kind is Kind.NOT_SUPPORTED
