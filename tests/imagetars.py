"""Images made of nothing: layers as tars, manifests, archives; and a real registry to push them to."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reflow.imagestore.manifest import LIST, OCI, OCI_INDEX, SCHEMA_2, digest_of
from tests.registry import Registry

WHEN = 1_600_000_000

Entry = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"", mode: int = 0o644, **more: Any) -> Entry:
    return _entry(name, tarfile.REGTYPE, data, mode=mode, size=len(data), **more)


def folder(name: str, mode: int = 0o755, **more: Any) -> Entry:
    return _entry(name, tarfile.DIRTYPE, mode=mode, **more)


def link(name: str, target: str) -> Entry:
    return _entry(name, tarfile.SYMTYPE, linkname=target, mode=0o777)


def hard_link(name: str, target: str) -> Entry:
    return _entry(name, tarfile.LNKTYPE, linkname=target)


def device(name: str) -> Entry:
    return _entry(name, tarfile.CHRTYPE, devmajor=1, devminor=3)


def fifo(name: str) -> Entry:
    return _entry(name, tarfile.FIFOTYPE, mode=0o600)


def _entry(name: str, kind: bytes, data: bytes = b"", **fields: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.mtime = kind, WHEN
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def layer(*entries: Entry) -> bytes:
    """A tar, as it is before compression."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def pack(data: bytes, how: str) -> bytes:
    """Compress: ``gzip``, ``zstd`` or ``tar`` (not at all)."""
    if how == "gzip":
        return gzip.compress(data, mtime=0)
    if how == "zstd":
        import zstandard

        return zstandard.ZstdCompressor().compress(data)
    assert how == "tar", how
    return data


@dataclass
class Made:
    """An image of layers. ``kind`` is the media type of its manifest."""

    layers: Sequence[bytes]
    how: Sequence[str] = ()
    kind: str = SCHEMA_2
    platform: tuple[str, str] = ("linux", "amd64")
    settings: dict[str, Any] = field(default_factory=dict)
    diff_ids: Sequence[str] | None = None

    @property
    def packed(self) -> list[bytes]:
        how = self.how or ["gzip"] * len(self.layers)
        return [pack(data, each) for data, each in zip(self.layers, how, strict=True)]

    @property
    def config(self) -> bytes:
        ids = [digest_of(each) for each in self.layers] if self.diff_ids is None else list(self.diff_ids)
        system, architecture = self.platform
        row = {"os": system, "architecture": architecture, "config": self.settings}
        return json.dumps({**row, "rootfs": {"type": "layers", "diff_ids": ids}}).encode()

    @property
    def id(self) -> str:
        return digest_of(self.config)

    @property
    def manifest(self) -> bytes:
        row = {
            "schemaVersion": 2,
            "mediaType": self.kind,
            "config": descriptor(self.config, self._type("config")),
            "layers": [descriptor(each, self._type("layer")) for each in self.packed],
        }
        return json.dumps(row).encode()

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def blobs(self) -> list[bytes]:
        return [self.config, *self.packed]

    def _type(self, part: str) -> str:
        if self.kind == SCHEMA_2:
            names = {"config": "container.image.v1+json", "layer": "image.rootfs.diff.tar.gzip"}
            return f"application/vnd.docker.{names[part]}"
        names = {"config": "config.v1+json", "layer": "layer.v1.tar+gzip"}
        return f"application/vnd.oci.image.{names[part]}"


def descriptor(data: bytes, kind: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(data), "digest": digest_of(data), **more}


def index_of(images: Sequence[Made], kind: str = OCI_INDEX) -> bytes:
    """An index of images for several machines."""
    rows = []
    for each in images:
        system, architecture = each.platform
        rows.append(
            descriptor(each.manifest, each.kind, platform={"os": system, "architecture": architecture})
        )
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": rows}).encode()


def docker_archive(images: dict[str, Made]) -> bytes:
    """What ``docker save`` writes: name -> image."""
    rows, files = [], {}
    for name, image in images.items():
        names = []
        for data in image.packed:
            names.append(f"{digest_of(data)[7:]}/layer.tar")
            files[names[-1]] = data
        config = f"{image.id[7:]}.json"
        files[config] = image.config
        rows.append({"Config": config, "RepoTags": [name] if name else None, "Layers": names})
    files["manifest.json"] = json.dumps(rows).encode()
    return layer(*[file(name, data) for name, data in files.items()])


def oci_archive(images: dict[str, Made]) -> bytes:
    """An OCI layout in a tar: annotated name -> image."""
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    rows = []
    for name, image in images.items():
        for data in (*image.blobs, image.manifest):
            files[f"blobs/sha256/{digest_of(data)[7:]}"] = data
        annotations = {"org.opencontainers.image.ref.name": name} if name else {}
        rows.append(descriptor(image.manifest, image.kind, annotations=annotations))
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": rows}).encode()
    return layer(*[file(name, data) for name, data in files.items()])


def serve(registry: Registry, image: Made, name: str, tag: str = "latest") -> None:
    """Let the registry of this process have an image."""
    for blob in image.blobs:
        registry.blobs[digest_of(blob)] = blob
    for reference in (tag, image.digest):
        registry.manifests[f"{name}/manifests/{reference}"] = (image.kind, image.manifest)


def serve_index(registry: Registry, images: Sequence[Made], name: str, tag: str = "latest") -> str:
    """Let the registry of this process have an index, and all its images; its digest."""
    for image in images:
        serve(registry, image, name, f"part-{image.id[7:15]}")
    body = index_of(images, LIST)
    for reference in (tag, digest_of(body)):
        registry.manifests[f"{name}/manifests/{reference}"] = (LIST, body)
    return digest_of(body)


class Pusher:
    """Pushes to a real registry at ``host``, over plain HTTP."""

    def __init__(self, host: str, authorization: str = "") -> None:
        self._host = host
        self._headers = {"Authorization": authorization} if authorization else {}

    def push(self, image: Made, name: str, tag: str) -> None:
        for blob in image.blobs:
            self._push_blob(name, blob)
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", image.manifest, image.kind)

    def push_index(self, images: Sequence[Made], name: str, tag: str) -> None:
        for image in images:
            self.push(image, name, image.digest)
        kind = LIST if images[0].kind == SCHEMA_2 else OCI_INDEX
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", index_of(images, kind), kind)

    def _push_blob(self, name: str, data: bytes) -> None:
        location = self._ask("POST", f"/v2/{name}/blobs/uploads/")
        target = location.partition(self._host)[2] or location
        mark = "&" if "?" in target else "?"
        self._ask("PUT", f"{target}{mark}digest={digest_of(data)}", data, "application/octet-stream")

    def _ask(self, method: str, target: str, body: bytes = b"", kind: str = "") -> str:
        connection = http.client.HTTPConnection(self._host, timeout=20)
        try:
            headers = {**self._headers, **({"Content-Type": kind} if kind else {})}
            connection.request(method, target, body, headers)
            reply = connection.getresponse()
            text = reply.read().decode()
            assert reply.status in (200, 201, 202), f"{method} {target}: {reply.status} {text}"
            return str(reply.getheader("Location", ""))
        finally:
            connection.close()


__all__ = [
    "LIST",
    "OCI",
    "OCI_INDEX",
    "SCHEMA_2",
    "WHEN",
    "Made",
    "Pusher",
    "device",
    "digest_of",
    "docker_archive",
    "fifo",
    "file",
    "folder",
    "hard_link",
    "index_of",
    "layer",
    "link",
    "oci_archive",
    "pack",
    "serve",
    "serve_index",
]
