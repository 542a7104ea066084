"""What the metadata of an object assert of it."""

from __future__ import annotations

from datetime import UTC

from reflow.core.assertion import BLOB_NAMESPACE, AssertionKey, Assertions
from reflow.core.fileset import File


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
