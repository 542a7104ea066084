"""Buckets as they are set up: encrypted, public, paid for by whoever asks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reflow.aws.session import AwsSession
from reflow.blob import Store
from reflow.blob.s3 import S3Store
from reflow.blob.s3part import READ_WHOLE, SMALLEST_PART
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from tests import servers
from tests.awsproxy import aws_proxy
from tests.buckets import CUTS, DATA_PATHS, Setting, s3_setting

DATA = bytes(range(256)) * ((READ_WHOLE + 256) // 256)


@pytest.fixture(params=DATA_PATHS)
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch, path: str) -> Iterator[Setting]:
    servers.use(monkeypatch, s3=servers.MOTO)
    with s3_setting(AwsSession(), DATA_PATHS[path]) as setting:
        yield setting


@pytest.fixture
def ceph(monkeypatch: pytest.MonkeyPatch, path: str) -> Iterator[Setting]:
    servers.use(monkeypatch)
    with s3_setting(AwsSession(), DATA_PATHS[path]) as setting:
        yield setting


@pytest.mark.aws
@pytest.mark.parametrize("algorithm", ["AES256", "aws:kms", "aws:kms:dsse"])
@pytest.mark.parametrize("size", [0, 10, SMALLEST_PART + 1, len(DATA)])
async def test_buckets_that_encrypt(moto: Setting, tmp_path: Path, algorithm: str, size: int) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}}
    for name in moto.names:
        moto.client.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    bucket = await moto.store.bucket(moto.names[0])
    (tmp_path / "in").write_bytes(DATA[:size])
    await bucket.upload("key", str(tmp_path / "in"), content_hash=Digest.of(DATA[:size]))
    head = moto.client.head_object(Bucket=moto.names[0], Key="key")
    assert head["ServerSideEncryption"] == algorithm
    assert await bucket.download("key", str(tmp_path / "out"), size=size) == Digest.of(DATA[:size])
    assert await bucket.read("key") == DATA[:size]
    assert b"".join([chunk async for chunk in bucket.get("key")]) == DATA[:size]
    other = await moto.store.bucket(moto.names[1])
    await other.copy_from(bucket, "key", "copy")
    assert await other.read("copy") == DATA[:size]
    await moto.store.close()


@pytest.mark.aws
async def test_etags_of_what_kms_encrypts_are_not_compared(
    moto: Setting, monkeypatch: pytest.MonkeyPatch, path: str, tmp_path: Path
) -> None:
    """moto's ETags are MD5s all the same: the proxy makes them what AWS's are."""
    moto.client.put_object(
        Bucket=moto.names[0], Key="key", Body=DATA, ServerSideEncryption="aws:kms", Metadata={"a": "b"}
    )
    with aws_proxy() as (proxy, url):
        proxy.headers["ETag"] = f'"{"0" * 32}"'
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        store = S3Store(AwsSession(), DATA_PATHS[path], CUTS)
        bucket = await store.bucket(moto.names[0])
        assert await bucket.read("key") == DATA
        digest = await bucket.download("key", str(tmp_path / "out"), size=0)
        assert digest == Digest.of(DATA)
        await store.close()


# Public buckets, as Ceph has them.


@pytest.fixture
async def anybody(ceph: Setting, monkeypatch: pytest.MonkeyPatch, path: str) -> AsyncIterator[Store]:
    """A store for somebody without credentials; the first bucket is public, the second is not."""
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{ceph.names[0]}", f"arn:aws:s3:::{ceph.names[0]}/*"],
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    ceph.client.put_bucket_policy(Bucket=ceph.names[0], Policy=json.dumps(policy))
    ceph.client.put_object(Bucket=ceph.names[0], Key="a key", Body=DATA)
    ceph.client.put_object(Bucket=ceph.names[1], Key="secret", Body=b"secret")
    with monkeypatch.context() as without:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            without.delenv(name)
        store = S3Store(AwsSession(), DATA_PATHS[path], CUTS)
        yield store
        await store.close()


@pytest.mark.s3
async def test_public_buckets_need_no_credentials(ceph: Setting, anybody: Store, tmp_path: Path) -> None:
    bucket = await anybody.bucket(ceph.names[0])
    assert [key async for key, _ in bucket.scan("")] == ["a key"]
    file = await bucket.file("a key")
    assert file.size == len(DATA)
    assert await bucket.download("a key", str(tmp_path / "out"), size=len(DATA)) == Digest.of(DATA)
    with pytest.raises(ReflowError) as caught:
        await bucket.put("other", b"data")
    assert caught.value.kind is Kind.NOT_ALLOWED


@pytest.mark.s3
async def test_what_is_not_public_is_not_allowed(ceph: Setting, anybody: Store, tmp_path: Path) -> None:
    bucket = await anybody.bucket(ceph.names[1])
    calls = [
        bucket.read("secret"),
        bucket.file("secret"),
        bucket.download("secret", str(tmp_path / "out"), size=1),
    ]
    for call in calls:
        with pytest.raises(ReflowError, match="AccessDenied") as caught:
            await call
        assert caught.value.kind is Kind.NOT_ALLOWED


@pytest.mark.s3
@pytest.mark.parametrize(("key", "secret"), [("testing", "wrong"), ("wrong", "testing")])
async def test_wrong_credentials_are_said_to_be(
    ceph: Setting, monkeypatch: pytest.MonkeyPatch, path: str, key: str, secret: str
) -> None:
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_ACCESS_KEY_ID", key)
        wrong.setenv("AWS_SECRET_ACCESS_KEY", secret)
        store = S3Store(AwsSession(), DATA_PATHS[path], CUTS)
        bucket = await store.bucket(ceph.names[0])
        with pytest.raises(ReflowError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId") as caught:
            await bucket.file("key")
        assert caught.value.kind is Kind.NOT_ALLOWED
        await store.close()


# Requester pays.


@pytest.mark.aws
@pytest.mark.parametrize("payer", ["", "requester"])
async def test_who_pays_is_said_in_every_request(
    moto: Setting, monkeypatch: pytest.MonkeyPatch, path: str, payer: str, tmp_path: Path
) -> None:
    if payer:
        monkeypatch.setenv("AWS_REQUEST_PAYER", payer)
    with aws_proxy() as (proxy, url):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        store = S3Store(AwsSession(), DATA_PATHS[path], CUTS)
        bucket = await store.bucket(moto.names[0])
        proxy.requests.clear()
        (tmp_path / "in").write_bytes(DATA)
        await bucket.upload("large", str(tmp_path / "in"))
        await bucket.copy_from(bucket, "large", "copy")
        await bucket.put("small", b"data")
        await bucket.read("small")
        await bucket.download("large", str(tmp_path / "out"), size=len(DATA))
        assert len([key async for key, _ in bucket.scan("")]) == 3
        await bucket.delete(["small"])
        await store.close()
        assert len(proxy.requests) > 15
        assert {headers.get("x-amz-request-payer", "") for headers in proxy.requests} == {payer}
