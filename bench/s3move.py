#!/usr/bin/env python3
"""Move many files to S3 or from there, as a repository does it; what `bench/s3.py` measures.

usage: bench/s3move.py up|hash-up|down DIR s3://BUCKET/PREFIX MANIFEST

MANIFEST is JSON, names with sizes. ``hash-up`` computes each file's SHA-256 first and sends it along;
``down`` always computes it.
"""

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path

from reflow.aws.session import AwsSession
from reflow.blob import Bucket
from reflow.blob.gather import MOVED_AT_ONCE
from reflow.blob.s3 import S3Store
from reflow.core.digest import Digest
from reflow.disk.blocking import Blocking


def digest_of(path: str) -> Digest:
    """SHA-256 of a file."""
    import hashlib

    with open(path, "rb") as stream:
        return Digest(hashlib.file_digest(stream, "sha256").digest())


async def move(verb: str, bucket: Bucket, key: str, path: str, size: int, blocking: Blocking) -> None:
    if verb == "down":
        await bucket.download(key, path, size=size)
        return
    digest = await blocking(digest_of, path) if verb == "hash-up" else None
    await bucket.upload(key, path, content_hash=digest)


async def main(verb: str, directory: str, url: str, manifest: str) -> None:
    name, _, prefix = url.removeprefix("s3://").partition("/")
    rest = iter(json.loads(manifest).items())
    store = S3Store(AwsSession())
    blocking = Blocking("hash", os.cpu_count() or 1)
    move_one = partial(move, verb, await store.bucket(name))

    async def some() -> None:
        for name, size in rest:
            await move_one(f"{prefix}{name}", os.path.join(directory, name), size, blocking)

    async with asyncio.TaskGroup() as group:
        for _ in range(MOVED_AT_ONCE):
            group.create_task(some())
    await store.close()


*arguments, manifest = sys.argv[1:]
asyncio.run(main(*arguments, Path(manifest).read_text()))
