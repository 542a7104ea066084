"""What can be known of an object's bytes from what came with them: MD5 in ETags, SHA-256 in metadata."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from reflow.blob.datapath import Received
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError

T = TypeVar("T")

TRIES = 3
HASH_KEY = "content-sha256"
HASH_HEADER = f"x-amz-meta-{HASH_KEY}"
_HEX = frozenset("0123456789abcdef")


class DamagedError(ReflowError):
    """Bytes that are not what they should be, perhaps only on their way to here."""


def is_md5(etag: str) -> bool:
    """Whether an ETag looks like an MD5; those of objects made of parts do not."""
    text = etag.strip('"').lower()
    return len(text) == 32 and _HEX.issuperset(text)


def is_kms(headers: Mapping[str, str]) -> bool:
    """Whether an object is encrypted in a way that makes its ETag no MD5, though it may look like one."""
    return (
        headers.get("x-amz-server-side-encryption", "").startswith("aws:")
        or "x-amz-server-side-encryption-customer-algorithm" in headers
    )


def promised(headers: Mapping[str, str]) -> Digest | None:
    """The content hash in metadata: hex, with or without ``sha256:``; None when it is no digest."""
    text = headers.get(HASH_HEADER, "")
    if not text:
        return None
    try:
        return Digest.parse(text if text.startswith("sha256:") else f"sha256:{text}")
    except ReflowError:
        return None


class Sums:
    """Sums of the bytes of an object that comes piece by piece, as far as they can be compared."""

    def __init__(self, about: Received, *, digest: bool = False) -> None:
        self._about = about
        has_md5 = is_md5(about.etag) and not is_kms(about.headers)
        self._md5 = hashlib.md5(usedforsecurity=False) if has_md5 else None
        self._promised = promised(about.headers)
        self._sha256 = hashlib.sha256() if digest or (self._promised and not has_md5) else None

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        for each in (self._md5, self._sha256):
            if each is not None:
                each.update(data)

    def digest(self) -> Digest:
        """The SHA-256 of all bytes; ``digest`` was asked for."""
        assert self._sha256 is not None
        return Digest(self._sha256.digest())

    def check(self, op: str, url: str) -> None:
        """Raise INTEGRITY for bytes that are not what they should be, as a DamagedError if it may pass."""
        has_md5 = self._md5 is not None
        found = self._md5.hexdigest() if self._md5 is not None else ""
        if has_md5 and found != self._about.etag.strip('"').lower():
            cause = f"damaged on its way: got bytes with the MD5 {found}, want its ETag {self._about.etag}"
            raise DamagedError(Kind.INTEGRITY, op, url, cause=cause)
        if self._sha256 is not None and self._promised not in (None, self.digest()):
            cause = f"got {self.digest()}, want {self._promised}, as its metadata (content-sha256) say"
            raise (ReflowError if has_md5 else DamagedError)(Kind.INTEGRITY, op, url, cause=cause)


async def again_if_damaged(call: Callable[[], Awaitable[T]]) -> T:
    """Return what ``call`` returns, if need be of a later try; raise `DamagedError` of the last one."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(DamagedError):
            return await call()
    return await call()
