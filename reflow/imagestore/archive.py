"""Archives of images: tars as ``docker save`` writes them, and OCI layouts in a tar; compressed or not."""

from __future__ import annotations

import json
import os
import posixpath
import select
import stat
import tarfile
from collections.abc import Callable
from typing import IO, Any, NamedTuple, cast

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.manifest import (
    Entry,
    Index,
    Manifest,
    choose_entry,
    digest_of,
    parse_manifest,
)
from reflow.imagestore.platform import Platform
from reflow.imagestore.stream import CHUNK_BYTES, MAX_HEADER_BYTES, Reader, decompressed

_MAX_JSON_BYTES = 16 << 20
_MAX_HOPS = 8
_POLL_S = 0.2
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_WANT = "want what docker save, podman save or skopeo write (docker export leaves out what an image is)"


class ArchivedImage(NamedTuple):
    """One image of an archive. ``layers`` are names of members; the digest is empty when there is none."""

    names: tuple[str, ...]
    digest: str
    config: bytes
    layers: tuple[str, ...]


class Archive:
    """An archive that can be read in any order. ``fd`` is an open file, and stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            # tarfile wants a file, and asks of it what _Headers has.
            file = cast("IO[bytes]", _Headers(fd))
            for member in tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape"):
                self._members[_clean(member.name)] = member
        except (tarfile.TarError, UnicodeError, OverflowError, ValueError) as err:
            raise ImageError(Kind.INVALID, f"no whole tar ({err}): {_WANT}") from err

    def images(self, platform: Platform) -> list[ArchivedImage]:
        """The images in it; of those for several machines, the one for ``platform``. Raises ImageError."""
        if "manifest.json" in self._members:
            return [self._docker_image(row) for row in _rows(self._json("manifest.json"))]
        if "index.json" in self._members:
            found = self._parse("index.json", self._bytes("index.json"))
            if isinstance(found, Index):
                return [self._oci_image(entries, platform) for entries in _by_name(found.entries)]
        raise ImageError(Kind.INVALID, f"no archive of images (no manifest.json, no index.json): {_WANT}")

    def layer(self, name: str) -> Reader:
        """Open a layer."""
        member = self._member(name)
        return _Slice(self._fd, member.offset_data, member.size)

    def layer_size(self, name: str) -> int:
        """How many bytes a layer has in the archive."""
        return self._member(name).size

    def _docker_image(self, row: dict[str, Any]) -> ArchivedImage:
        config, layers, tags = row.get("Config"), row.get("Layers") or [], row.get("RepoTags") or []
        texts = [config, *layers, *tags] if isinstance(layers, list) and isinstance(tags, list) else [None]
        if not all(isinstance(each, str) for each in texts):
            raise ImageError(Kind.INVALID, "malformed: manifest.json is not as it should be")
        return ArchivedImage(tuple(tags), "", self._bytes(str(config)), tuple(layers))

    def _oci_image(self, entries: list[Entry], platform: Platform) -> ArchivedImage:
        digest = entries[0].digest if len(entries) == 1 else choose_entry(entries, platform)
        manifest = self._manifest(digest, platform)
        layers = tuple([_blob(each.digest) for each in manifest.layers])
        config = self._blob_bytes(manifest.config.digest)
        name = _entry_name(entries[0])
        return ArchivedImage((name,) if name else (), manifest.digest, config, layers)

    def _manifest(self, digest: str, platform: Platform) -> Manifest:
        found = self._parse(digest, self._blob_bytes(digest))
        if isinstance(found, Index):
            digest = choose_entry(found.entries, platform)
            found = self._parse(digest, self._blob_bytes(digest))
        if isinstance(found, Index):
            raise ImageError(Kind.INVALID, "malformed: an index of indexes")
        return found

    def _parse(self, what: str, body: bytes) -> Manifest | Index:
        try:
            return parse_manifest(body)
        except ImageError as err:
            raise ImageError(err.kind, f"{what}: {err}") from err

    def _blob_bytes(self, digest: str) -> bytes:
        body = self._bytes(_blob(digest))
        if digest_of(body) != digest:
            raise ImageError(Kind.INTEGRITY, f"damaged: what it has as {digest} is {digest_of(body)}")
        return body

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._bytes(name))
        except (ValueError, RecursionError):
            raise ImageError(Kind.INVALID, f"malformed: {name} is no JSON") from None

    def _bytes(self, name: str) -> bytes:
        member = self._member(name)
        if member.size > _MAX_JSON_BYTES:
            raise ImageError(Kind.INVALID, f"malformed: {name} has {member.size} bytes")
        reader, parts = self.layer(name), []
        while chunk := reader.read(CHUNK_BYTES):
            parts.append(chunk)
        return b"".join(parts)

    def _member(self, name: str) -> tarfile.TarInfo:
        """The file that a name leads to: layers that are in the archive already are links to them."""
        path = _clean(name)
        for _ in range(_MAX_HOPS):
            member = self._members.get(path)
            if member is None or not (member.isreg() or member.issym() or member.islnk()):
                break
            if member.isreg():
                return member
            start = posixpath.dirname(path) if member.issym() else ""
            path = _clean(posixpath.join(start, member.linkname))
        raise ImageError(Kind.INVALID, f"malformed: it has no file {name!r}")


def spool(source: int, target: int, check: Callable[[], None]) -> None:
    """Copy an archive from an open file to another, decompressed. Raises ImageError, OSError."""
    reader = decompressed(_File(source, check))
    while chunk := reader.read(CHUNK_BYTES):
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]


def is_plain_tar(fd: int) -> bool:
    """Tell whether an open file can be read in any order as it is."""
    return stat.S_ISREG(os.fstat(fd).st_mode) and os.pread(fd, 5, 257) == b"ustar"


class _Headers:
    """An open file for `tarfile`, which reads headers only and goes forward only."""

    name = ""
    mode = "rb"

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        if whence != 0 or position < self._position - 1:
            raise ImageError(Kind.INVALID, "malformed: a tar that leads backwards")
        self._position = position
        return position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ImageError(Kind.INVALID, f"malformed: a header of {size} bytes")
        try:
            data = os.pread(self._fd, size, self._position)
        except OverflowError:
            data = b""
        self._position += len(data)
        return data


class _Slice:
    """A part of an open file."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._offset = offset
        self._left = size

    def read(self, size: int, /) -> bytes:
        if not self._left:
            return b""
        chunk = os.pread(self._fd, min(size, self._left), self._offset)
        if not chunk:
            raise ImageError(Kind.INTEGRITY, "damaged: the archive ends early")
        self._offset += len(chunk)
        self._left -= len(chunk)
        return chunk


class _File:
    """An open file, maybe a pipe that has nothing yet: ``check`` is called while it is waited for."""

    def __init__(self, fd: int, check: Callable[[], None]) -> None:
        self._fd = fd
        self._check = check

    def read(self, size: int, /) -> bytes:
        self._check()
        while not select.select([self._fd], [], [], _POLL_S)[0]:
            self._check()
        return os.read(self._fd, size)


def _clean(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _rows(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise ImageError(Kind.INVALID, "malformed: manifest.json is not as it should be")
    return document


def _by_name(entries: tuple[Entry, ...]) -> list[list[Entry]]:
    """Entries of the same name together: they are one image, for several machines."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_entry_name(entry), []).append(entry)
    return list(groups.values())


def _entry_name(entry: Entry) -> str:
    """The name that an entry of an OCI layout has; a lone tag is none."""
    for each in _NAME_ANNOTATIONS:
        name = entry.annotations.get(each, "")
        if "/" in name or ":" in name:
            return name
    return ""
