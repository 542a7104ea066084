"""What the metadata of objects assert of them: references to what is there."""

from __future__ import annotations

from datetime import UTC

from reflow.blob import Bucket
from reflow.core.assertion import BLOB_NAMESPACE, AssertionKey, Assertions
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset


def assertions_about(subject: str, file: File) -> Assertions:
    """ETag, time of change and size, as far as they are known. Source: blob/mux.go, Mux.Generate."""
    properties = {}
    if file.etag:
        properties["etag"] = file.etag
    if file.last_modified is not None:
        when = file.last_modified.astimezone(UTC)
        fraction = f".{when.microsecond:06d}".rstrip("0") if when.microsecond else ""
        properties["last-modified"] = f"{when:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"
    if file.size > 0:
        properties["size"] = str(file.size)
    return Assertions({AssertionKey(BLOB_NAMESPACE, subject): properties})


async def snapshot_of(bucket: Bucket, prefix: str) -> Fileset:
    """What `reflow.blob.Bucket.snapshot` gives, by looking and listing."""
    if prefix and not prefix.endswith("/"):
        return Fileset.of_file(_asserted(await bucket.file(prefix), may_be_empty=False))
    return Fileset(
        {
            key.removeprefix(prefix): _asserted(file, may_be_empty=True)
            async for key, file in bucket.scan(prefix, has_metadata=True)
            if not key.endswith("/")
        }
    )


def _asserted(file: File, *, may_be_empty: bool) -> File:
    if not file.etag or not (file.size or may_be_empty):
        raise ReflowError(Kind.INVALID, "blob.snapshot", file.source, cause="incomplete metadata")
    return file.with_assertions(assertions_about(file.source, file))
