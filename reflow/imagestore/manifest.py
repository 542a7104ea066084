"""Manifests, indexes and configurations of images, read from JSON: Docker's version 2 and OCI's."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.platform import Platform

SCHEMA_2 = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
ALL_TYPES = ", ".join((SCHEMA_2, LIST, OCI_INDEX, OCI))

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Descriptor(NamedTuple):
    """Something named by its digest; ``size`` is -1 when it is not told."""

    digest: str
    size: int


class Manifest(NamedTuple):
    """What one image consists of; ``digest`` is the manifest's own."""

    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Entry(NamedTuple):
    """One image of an index, with the machine it is for and what names it has."""

    digest: str
    platform: Platform
    annotations: dict[str, str]


class Index(NamedTuple):
    """Images for several machines under one name."""

    entries: tuple[Entry, ...]


class ImageConfig(NamedTuple):
    """A configuration; ``id`` is its digest, ``diff_ids`` are the digests of the layers' tars."""

    id: str
    platform: Platform
    diff_ids: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    user: str


def digest_of(data: bytes) -> str:
    """The digest of some bytes, as ``sha256:…``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse_manifest(body: bytes) -> Manifest | Index:
    """Read a manifest or an index. Raises ImageError INVALID, or NOT_SUPPORTED for schema 1."""
    row = _object(body)
    if "manifests" in row:
        return Index(tuple([_entry(each) for each in _rows(row, "manifests")]))
    if row.get("schemaVersion") == 1 or "fsLayers" in row:
        raise ImageError(Kind.NOT_SUPPORTED, "the manifest has schema 1, want 2: push the image again")
    layers = tuple([_descriptor(each) for each in _rows(row, "layers")])
    return Manifest(digest_of(body), _descriptor(row.get("config")), layers)


def parse_config(body: bytes) -> ImageConfig:
    """Read a configuration. Raises ImageError INVALID, or NOT_SUPPORTED for what is no image."""
    row = _object(body)
    inner = _member(row, "config", dict, {})
    rootfs = _member(row, "rootfs", dict, {})
    if "rootfs" not in row:
        raise ImageError(Kind.NOT_SUPPORTED, "no image of a container: its configuration has no rootfs")
    platform = Platform(_member(row, "os", str, ""), _member(row, "architecture", str, ""))
    return ImageConfig(
        digest_of(body),
        platform,
        tuple([_digest(each) for each in _texts(rootfs, "diff_ids")]),
        _texts(inner, "Env"),
        _member(inner, "WorkingDir", str, ""),
        _texts(inner, "Entrypoint"),
        _texts(inner, "Cmd"),
        _member(inner, "User", str, ""),
    )


def choose_entry(entries: Sequence[Entry], wanted: Platform) -> str:
    """The digest of the image for a machine: made for it, or else one that runs on it.

    Raises ImageError NOT_SUPPORTED with what there is.
    """
    exact = [each for each in entries if each.platform == wanted]
    known = [each for each in entries if each.platform.architecture not in ("", "unknown")]
    running = [each for each in known if wanted.runs(each.platform)]
    lone = list(entries) if len(entries) == 1 and not known else []
    for each in (*exact, *running, *lone):
        return each.digest
    have = ", ".join(sorted({str(each.platform) for each in known})) or "nothing"
    raise ImageError(Kind.NOT_SUPPORTED, f"the image is made for {have}, and this needs {wanted}")


def check_platform(config: ImageConfig, wanted: Platform) -> None:
    """Raise ImageError NOT_SUPPORTED when an image does not run on a machine."""
    if not wanted.runs(config.platform):
        detail = f"the image is made for {config.platform}, and this machine is {wanted}"
        raise ImageError(Kind.NOT_SUPPORTED, detail)


def _entry(row: Any) -> Entry:
    if not isinstance(row, dict):
        raise _malformed("an entry of an index is no object")
    platform = _member(row, "platform", dict, {})
    annotations = _member(row, "annotations", dict, {})
    return Entry(
        _digest(row.get("digest")),
        Platform(_member(platform, "os", str, ""), _member(platform, "architecture", str, "")),
        {str(name): str(value) for name, value in annotations.items()},
    )


def _descriptor(row: Any) -> Descriptor:
    if not isinstance(row, dict):
        raise _malformed("a descriptor is no object")
    size = row.get("size", -1)
    if not isinstance(size, int) or isinstance(size, bool):
        raise _malformed(f"a size is {size!r}")
    return Descriptor(_digest(row.get("digest")), size)


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise _malformed(f"a digest is {value!r}, want sha256: and 64 hexadecimal digits")
    return value


def _object(body: bytes) -> dict[str, Any]:
    try:
        row = json.loads(body)
    except (ValueError, RecursionError):
        raise _malformed("no JSON") from None
    if not isinstance(row, dict):
        raise _malformed("no JSON object")
    return row


def _rows(row: dict[str, Any], name: str) -> list[Any]:
    value: list[Any] = _member(row, name, list, [])
    return value


def _texts(row: dict[str, Any], name: str) -> tuple[str, ...]:
    values = _member(row, name, list, [])
    if not all(isinstance(each, str) for each in values):
        raise _malformed(f"{name} is no list of texts")
    return tuple(values)


def _member(row: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = row.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise _malformed(f"{name} is {value!r}")
    return value


def _malformed(what: str) -> ImageError:
    return ImageError(Kind.INVALID, f"malformed: {what}")
