"""Stores of buckets for tests, and what is left in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from reflow.aws.session import AwsSession
from reflow.blob import Store
from reflow.blob.boto import open_boto
from reflow.blob.datapath import OpenDataPath
from reflow.blob.memory import MemoryStore
from reflow.blob.route import open_direct
from reflow.blob.s3 import Cuts, S3Store
from reflow.blob.s3part import SMALLEST_PART
from tests import servers

DATA_PATHS: dict[str, OpenDataPath] = {"boto": open_boto, "direct": open_direct}

CUTS = Cuts(copied_whole=SMALLEST_PART + 1, copied_part=SMALLEST_PART, listed=7, deleted=5)
"""Small, so that little data shows what happens at the cuts."""


class Setting(NamedTuple):
    """A store with two buckets. ``client`` is boto3's; None where there is none."""

    store: Store
    names: tuple[str, str]
    client: Any = None

    def uploads(self) -> list[str]:
        """Keys of uploads in parts that nobody has finished."""
        if self.client is None:
            return []
        pages = [self.client.list_multipart_uploads(Bucket=name) for name in self.names]
        return [row["Key"] for page in pages for row in page.get("Uploads", [])]


def memory_setting() -> Setting:
    """Two buckets in memory."""
    return Setting(MemoryStore(("one", "two"), copied_whole=CUTS.copied_whole), ("one", "two"))


@contextmanager
def s3_setting(session: AwsSession, path: OpenDataPath, cuts: Cuts = CUTS) -> Iterator[Setting]:
    """Two new buckets at the server of the environment, which are deleted afterwards."""
    client = session.client("s3")
    first, second = (f"blob-{uuid.uuid4().hex[:16]}" for _ in range(2))
    try:
        for name in (first, second):
            client.create_bucket(
                Bucket=name, CreateBucketConfiguration={"LocationConstraint": servers.REGION}
            )
        yield Setting(S3Store(session, path, cuts), (first, second), client)
    finally:
        fresh = session.client("s3")  # the store has closed the other
        for name in (first, second):
            empty_bucket(fresh, name)
            fresh.delete_bucket(Bucket=name)


def empty_bucket(client: Any, name: str) -> None:
    """Delete all that is in a bucket, uploads in parts included."""
    for row in client.list_multipart_uploads(Bucket=name).get("Uploads", []):
        client.abort_multipart_upload(Bucket=name, Key=row["Key"], UploadId=row["UploadId"])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for row in page.get("Contents", []):
            client.delete_object(Bucket=name, Key=row["Key"])
