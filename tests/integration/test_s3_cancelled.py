"""A put that was cancelled when all of it was under way does not come after what is done later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reflow.aws.session import AwsSession
from reflow.blob import Bucket
from reflow.blob.s3 import S3Store
from reflow.core.errors import Kind, ReflowError
from tests import servers
from tests.awsaccount import client, random_name, remove_bucket
from tests.buckets import DATA_PATHS
from tests.faultproxy import Fault, FaultProxy, fault_proxy
from tests.waiting import until

KEYS = [f"key-{number}" for number in range(8)]


async def cancelled_in_flight(bucket: Bucket, proxy: FaultProxy, path: Path) -> None:
    """Begin puts and uploads of all keys, and cancel them while the proxy holds them back."""
    proxy.plan = lambda what, count: Fault.DELAY if what.startswith("PUT") and count == 1 else None
    path.write_bytes(b"old" * (1 << 20))
    works = [
        bucket.put(key, b"old") if number % 2 else bucket.upload(key, str(path))
        for number, key in enumerate(KEYS)
    ]
    tasks = [asyncio.ensure_future(work) for work in works]
    await until(lambda: sum(line.startswith("> PUT") for line in proxy.events) == len(KEYS))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert any(task.cancelled() for task in tasks)


@pytest.mark.s3
@pytest.mark.parametrize("path", DATA_PATHS)
@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_cancelled_put_does_not_land_after_what_follows(
    path: str, is_deleted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3, name = client("s3", servers.S3), random_name("cancelled")
    s3.create_bucket(Bucket=name)
    try:
        with fault_proxy(servers.S3, 3) as (proxy, url):
            servers.use(monkeypatch, s3=url)
            store = S3Store(AwsSession(), DATA_PATHS[path])
            bucket = await store.bucket(name)
            await cancelled_in_flight(bucket, proxy, tmp_path / "f")
            if is_deleted:
                await bucket.delete(KEYS)
            else:
                await asyncio.gather(*[bucket.put(key, b"new") for key in KEYS])
            await until(lambda: count(proxy, "<") == count(proxy, ">"))
            found = [await content(bucket, key) for key in KEYS]
            await store.close()
        assert set(found) == ({b""} if is_deleted else {b"new"})
    finally:
        remove_bucket(s3, name)


def count(proxy: FaultProxy, way: str) -> int:
    return sum(line.startswith(f"{way} PUT") for line in proxy.events)


async def content(bucket: Bucket, key: str) -> bytes:
    try:
        return await bucket.read(key)
    except ReflowError as err:
        return b"" if err.kind is Kind.NOT_EXIST else str(err).encode()
