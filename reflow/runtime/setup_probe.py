"""Whether a bucket is there, and can be used: by writing an object, asking for it and deleting it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from reflow.runtime.setup_call import CallError, Cloud, not_understood

_BODY = b"reflow"
KEY = "uploads/reflow-probe"
"""Where objects live that are not finished; always the same, so that one left behind goes with the next."""


def head(call: Callable[..., dict[str, Any]], bucket: str) -> dict[str, Any]:
    """Ask for a bucket by ``call(operation, **parameters)``. Raises CallError, with the true reason.

    An answer to HEAD has no body, and so no reason: of what is just a bad request another call is told it.
    """
    try:
        return call("head_bucket", Bucket=bucket)
    except CallError as err:
        if err.code == "400":
            call("get_bucket_location", Bucket=bucket)
        raise


def probe(cloud: Cloud, bucket: str) -> None:
    """Write a small object, ask for it and delete it, in a versioned bucket too. Raises CallError."""
    probe_with(partial(cloud.call, "s3"), bucket)


def probe_with(call: Callable[..., dict[str, Any]], bucket: str) -> None:
    """The same by calls of S3 given as ``call(operation, **parameters)``."""
    put = call("put_object", Bucket=bucket, Key=KEY, Body=_BODY)
    there = call("head_object", Bucket=bucket, Key=KEY)  # takes the right to read
    if there.get("ContentLength", len(_BODY)) != len(_BODY):
        raise not_understood("s3.head_object", "InvalidResponse")
    _remove(call, bucket, put.get("VersionId"))


def _remove(call: Callable[..., dict[str, Any]], bucket: str, version: str | None) -> None:
    """Delete the object, for good if that is permitted: a driver needs no right to delete versions."""
    if version:
        try:
            call("delete_object", Bucket=bucket, Key=KEY, VersionId=version)
        except CallError as err:
            if not err.is_denied:
                raise
        else:
            return
    call("delete_object", Bucket=bucket, Key=KEY)
