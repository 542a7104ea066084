"""Buckets of S3, through boto3's clients in threads.

Every call is tried again when it may pass (`reflow.aws.retry`). What is sent carries an MD5, so that a server
refuses what was damaged on its way; what is received is checked by length, and by MD5 where the ETag is one.
``AWS_REQUEST_PAYER=requester`` says that requests may be charged to us.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from reflow.aws.error import kind_of_code, translate
from reflow.aws.retry import FIRST, retrying
from reflow.aws.session import DEFAULT_REGION, AwsSession
from reflow.blob import Bucket, Observe, Store
from reflow.blob.asserting import assertions_about
from reflow.blob.s3part import (
    COPIED_PART,
    COPIED_WHOLE,
    READ_PART,
    READ_WHOLE,
    SMALLEST_PART,
    Part,
    parts,
    upload_part_size,
)
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.fileset import File, Fileset
from reflow.disk.blocking import Blocking, to_the_end
from reflow.disk.filesystem import translate_error

T = TypeVar("T")

THREADS = 32
_PARTS_AT_ONCE = 8
_CHUNK = 1 << 20
_HASH_KEY = "content-sha256"
_DELETED_AT_ONCE = 1000


class S3Store(Store):
    """Buckets by name, each asked for in its own region. One for each process."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._blocking = Blocking("s3", THREADS)
        self._buckets: dict[str, S3Bucket] = {}
        self._opening = asyncio.Lock()

    async def bucket(self, name: str) -> Bucket:
        """A bucket, wherever it is. Raises NOT_EXIST or NOT_ALLOWED."""
        async with self._opening:
            if name not in self._buckets:
                region = await retrying(lambda: self._blocking(self._region, name), FIRST)
                client = await self._blocking(self._session.client, "s3", region)
                self._buckets[name] = S3Bucket(name, client, self._blocking)
            return self._buckets[name]

    def _region(self, name: str) -> str:
        """Where a bucket is; it need not be one that we may list."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._session.client("s3").head_bucket(Bucket=name)
        except ClientError as err:
            answer = err.response
            status = answer["ResponseMetadata"].get("HTTPStatusCode")
            headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
            if status not in (301, 400, 403) or ("x-amz-bucket-region" not in headers and status != 403):
                raise translate(err, "s3.bucket", name) from err
        except BotoCoreError as err:
            raise translate(err, "s3.bucket", name) from err
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        region: str = headers.get("x-amz-bucket-region") or self._session.region or DEFAULT_REGION
        return region

    async def close(self) -> None:
        """Let go of connections and threads."""
        self._buckets.clear()
        self._blocking.close()
        self._session.close()


class S3Bucket(Bucket):
    """One bucket."""

    def __init__(self, name: str, client: Any, blocking: Blocking) -> None:
        self.name = name
        self._client = client
        self._blocking = blocking
        self._parts = asyncio.Semaphore(_PARTS_AT_ONCE)
        payer = os.environ.get("AWS_REQUEST_PAYER", "")
        self._payer = {"RequestPayer": payer} if payer else {}

    @property
    def location(self) -> str:
        """``s3://name/``."""
        return f"s3://{self.name}/"

    async def _call(self, op: str, key: str, **arguments: Any) -> dict[str, Any]:
        """Make a call of the client, by its name, until it succeeds or will not."""
        return await retrying(lambda: self._blocking(self._once, op, key, **arguments))

    def _once(self, op: str, key: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._guarded(op, key, lambda: getattr(self._client, op)(**arguments))
        return answer

    def _guarded(self, op: str, key: str, call: Callable[[], T]) -> T:
        """Do something with the client, in a thread; what it raises is translated."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            return call()
        except (BotoCoreError, ClientError, HTTPError) as err:
            raise translate(err, f"s3.{op}", self.location + key) from err

    # Looking.

    async def file(self, key: str) -> File:
        """What is known of an object."""
        answer = await self._call("head_object", key, Bucket=self.name, Key=key, **self._payer)
        return self._file(key, answer["ContentLength"], answer, answer.get("Metadata", {}))

    def _file(self, key: str, size: int, answer: dict[str, Any], metadata: dict[str, str]) -> File:
        return File(
            None,
            size,
            self.location + key,
            answer.get("ETag", ""),
            answer.get("LastModified"),
            _promised(metadata.get(_HASH_KEY, "")),
        )

    async def scan(self, prefix: str, *, has_metadata: bool = False) -> AsyncIterator[tuple[str, File]]:
        """Every key with that prefix, page by page."""
        token: dict[str, str] = {}
        while True:
            page = await self._call(
                "list_objects_v2", prefix, Bucket=self.name, Prefix=prefix, **token, **self._payer
            )
            found = [
                (row["Key"], self._file(row["Key"], row["Size"], row, {})) for row in page.get("Contents", [])
            ]
            if has_metadata:
                found = await _gather([self._with_metadata(key, file) for key, file in found])
            for entry in found:
                yield entry
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def _with_metadata(self, key: str, listed: File) -> tuple[str, File]:
        """With what only the object itself tells; without, when it cannot be asked."""
        try:
            return key, await self.file(key)
        except ReflowError:
            return key, listed

    async def snapshot(self, prefix: str) -> Fileset:
        """References to what is there; see `reflow.blob.Bucket.snapshot`."""
        if prefix and not prefix.endswith("/"):
            file = await self.file(prefix)
            if not file.etag or not file.size:
                raise ReflowError(Kind.INVALID, "s3.snapshot", file.source, cause="incomplete metadata")
            return Fileset.of_file(file.with_assertions(assertions_about(file.source, file)))
        files: dict[str, File] = {}
        async for key, file in self.scan(prefix, has_metadata=True):
            if key.endswith("/"):
                continue
            if not file.etag:
                raise ReflowError(Kind.INVALID, "s3.snapshot", file.source, cause="incomplete metadata")
            files[key.removeprefix(prefix)] = file.with_assertions(assertions_about(file.source, file))
        return Fileset(files)

    # Reading.

    async def read(self, key: str, *, etag: str = "") -> bytes:
        """Return a small object whole."""
        return await retrying(lambda: self._blocking(self._read, key, etag))

    def _read(self, key: str, etag: str) -> bytes:
        body, answer = self._open(key, etag)
        with contextlib.closing(body):
            data: bytes = self._guarded("get_object", key, body.read)
        if len(data) != answer["ContentLength"] or not _is_intact(data, answer):
            raise self._damaged(key)
        return data

    def _open(self, key: str, etag: str, part: Part | None = None) -> tuple[Any, dict[str, Any]]:
        """The body of an object or of a part of it, and what came with it."""
        more = dict(self._payer)
        if etag:
            more["IfMatch"] = etag
        if part is not None:
            more["Range"] = f"bytes={part.offset}-{part.offset + part.size - 1}"
        answer = self._once("get_object", key, Bucket=self.name, Key=key, **more)
        return answer["Body"], answer

    def _damaged(self, key: str) -> ReflowError:
        return ReflowError(Kind.TEMPORARY, "s3.get_object", self.location + key, cause="damaged on its way")

    async def get(self, key: str, *, etag: str = "") -> AsyncIterator[bytes]:
        """Stream an object by ranges of one version of it; one that fails is asked for again."""
        file = await self.file(key)
        if etag and file.etag != etag:
            raise ReflowError(
                Kind.PRECONDITION, "s3.get_object", file.source, cause=f"its ETag is {file.etag}"
            )
        if file.size == 0:
            return
        ahead: asyncio.Task[bytes] | None = None
        rest = parts(file.size, READ_PART)

        def begin() -> asyncio.Task[bytes] | None:
            part = next(rest, None)
            return None if part is None else asyncio.ensure_future(self._read_part(key, file.etag, part))

        ahead = begin()
        try:
            while ahead is not None:
                data, ahead = await ahead, begin()
                for start in range(0, len(data), _CHUNK):
                    yield data[start : start + _CHUNK]
        finally:
            if ahead is not None:
                ahead.cancel()

    async def _read_part(self, key: str, etag: str, part: Part) -> bytes:
        def read() -> bytes:
            body, _ = self._open(key, etag, part)
            with contextlib.closing(body):
                data: bytes = self._guarded("get_object", key, body.read)
            if len(data) != part.size:
                raise self._damaged(key)
            return data

        return await retrying(lambda: self._blocking(read))

    async def download(
        self, key: str, path: str, *, size: int, etag: str = "", observe: Observe | None = None
    ) -> Digest:
        """Write an object to a new file; see `reflow.blob.Bucket.download`."""
        if size > READ_WHOLE:
            return await self._download_parts(key, path, etag, observe)
        data = await self.read(key, etag=etag)
        digest = await to_the_end(self._blocking(_write_whole, path, data))
        if observe is not None:
            observe(len(data))
        return digest

    async def _download_parts(self, key: str, path: str, etag: str, observe: Observe | None) -> Digest:
        file = await self.file(key)
        if etag and file.etag != etag:
            raise ReflowError(
                Kind.PRECONDITION, "s3.get_object", file.source, cause=f"its ETag is {file.etag}"
            )
        descriptor = await self._blocking(_make_file, path, file.size)

        async def fetch(part: Part) -> None:
            async with self._parts:
                # To the end: the descriptor must not be closed, and used again, under a thread that writes.
                await retrying(
                    lambda: to_the_end(self._blocking(self._fetch_part, key, file.etag, part, descriptor))
                )
            if observe is not None:
                observe(part.size)

        try:
            await to_the_end(_gather([fetch(part) for part in parts(file.size, READ_PART)]))
            digest, md5 = await to_the_end(self._blocking(_hash_file, path))
            if _is_md5(file.etag) and file.etag.strip('"') != md5 and not await self._is_encrypted(key):
                raise ReflowError(Kind.INTEGRITY, "s3.get_object", file.source, cause="damaged on its way")
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)
        return digest

    async def _is_encrypted(self, key: str) -> bool:
        """Whether an ETag that looks like an MD5 is none: it is not of objects encrypted by KMS."""
        answer = await self._call("head_object", key, Bucket=self.name, Key=key, **self._payer)
        return _has_other_etag(answer)

    def _fetch_part(self, key: str, etag: str, part: Part, descriptor: int) -> None:
        body, _ = self._open(key, etag, part)
        offset, end = part.offset, part.offset + part.size
        with contextlib.closing(body):
            while chunk := self._guarded("get_object", key, lambda: body.read(_CHUNK)):
                try:
                    os.pwrite(descriptor, chunk, offset)
                except OSError as err:
                    raise translate_error(err, "s3.get_object", self.location + key) from err
                offset += len(chunk)
        if offset != end:
            raise self._damaged(key)

    # Writing.

    async def put(
        self, key: str, data: bytes, *, content_hash: Digest | None = None, if_absent: bool = False
    ) -> None:
        """Store a small object."""
        more: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        await self._call(
            "put_object",
            key,
            Bucket=self.name,
            Key=key,
            Body=data,
            ContentMD5=_md5_text(data),
            Metadata=_metadata(content_hash),
            **more,
            **self._payer,
        )

    async def upload(
        self, key: str, path: str, *, content_hash: Digest | None = None, observe: Observe | None = None
    ) -> None:
        """Store a file, in parts when it is large."""
        size = _size_of(path)
        if size <= SMALLEST_PART:
            data = await self._blocking(_read_part_of, path, Part(1, 0, size))
            await self.put(key, data, content_hash=content_hash)
            if observe is not None:
                observe(size)
            return

        async def send(upload: str, part: Part) -> str:
            data = await self._blocking(_read_part_of, path, part)
            md5 = await self._blocking(_md5_text, data)
            answer = await self._call(
                "upload_part",
                key,
                Bucket=self.name,
                Key=key,
                UploadId=upload,
                PartNumber=part.number,
                Body=data,
                ContentMD5=md5,
                **self._payer,
            )
            if observe is not None:
                observe(part.size)
            etag: str = answer["ETag"]
            return etag

        pieces = parts(size, upload_part_size(size))
        await self._in_parts(key, pieces, send, _metadata(content_hash))

    async def _in_parts(
        self,
        key: str,
        pieces: Iterable[Part],
        send: Callable[[str, Part], Awaitable[str]],
        metadata: dict[str, str],
    ) -> None:
        """Make an object of parts; nothing is left of one that fails."""
        target = {"Bucket": self.name, "Key": key}
        begun = await self._call("create_multipart_upload", key, **target, Metadata=metadata, **self._payer)
        upload = begun["UploadId"]

        async def limited(part: Part) -> dict[str, Any]:
            async with self._parts:
                return {"PartNumber": part.number, "ETag": await send(upload, part)}

        try:
            done = await _gather([limited(part) for part in pieces])
            await self._complete(key, upload, done)
        except BaseException:
            with contextlib.suppress(ReflowError):
                await to_the_end(self._call("abort_multipart_upload", key, **target, UploadId=upload))
            raise

    async def _complete(self, key: str, upload: str, done: list[dict[str, Any]]) -> None:
        """Put the parts together. When the answer was lost, the upload is gone and the object is there."""
        try:
            await self._call(
                "complete_multipart_upload",
                key,
                Bucket=self.name,
                Key=key,
                UploadId=upload,
                MultipartUpload={"Parts": done},
                **self._payer,
            )
        except ReflowError as err:
            if kind_of(err) not in (Kind.TEMPORARY, Kind.NOT_EXIST) or not await self._has(key, done):
                raise

    async def _has(self, key: str, done: list[dict[str, Any]]) -> bool:
        """Whether the object that these parts make is there."""
        sums = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in done if _is_md5(part["ETag"]))
        wanted = f'"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(done)}"'
        try:
            return (await self.file(key)).etag == wanted
        except ReflowError:
            return False

    async def copy_from(
        self, source: Bucket, source_key: str, key: str, *, content_hash: Digest | None = None
    ) -> None:
        """Copy within S3. Up to 256 MiB the copy has the metadata of its source, as the original's."""
        assert isinstance(source, S3Bucket)
        file = await source.file(source_key)
        origin = {"Bucket": source.name, "Key": source_key}
        if file.size <= COPIED_WHOLE:
            await self._call(
                "copy_object",
                key,
                Bucket=self.name,
                Key=key,
                CopySource=origin,
                CopySourceIfMatch=file.etag,
                **self._payer,
            )
            return

        async def send(upload: str, part: Part) -> str:
            answer = await self._call(
                "upload_part_copy",
                key,
                Bucket=self.name,
                Key=key,
                UploadId=upload,
                PartNumber=part.number,
                CopySource=origin,
                CopySourceIfMatch=file.etag,
                CopySourceRange=f"bytes={part.offset}-{part.offset + part.size - 1}",
                **self._payer,
            )
            etag: str = answer["CopyPartResult"]["ETag"]
            return etag

        metadata = _metadata(file.content_hash or content_hash)
        await self._in_parts(key, parts(file.size, COPIED_PART), send, metadata)

    async def delete(self, keys: Collection[str]) -> None:
        """Delete objects."""
        rest = list(keys)
        for start in range(0, len(rest), _DELETED_AT_ONCE):
            rows = [{"Key": key} for key in rest[start : start + _DELETED_AT_ONCE]]
            answer = await self._call(
                "delete_objects", "", Bucket=self.name, Delete={"Objects": rows, "Quiet": True}, **self._payer
            )
            for trouble in answer.get("Errors", []):
                code, key = trouble.get("Code", ""), trouble.get("Key", "")
                cause = f"{code}: {trouble.get('Message')}"
                raise ReflowError(kind_of_code(code), "s3.delete_objects", self.location + key, cause=cause)


async def _gather(work: Iterable[Awaitable[T]]) -> list[T]:
    """All results in order; the first error ends the others."""

    async def one(each: Awaitable[T]) -> T:
        return await each

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(each)) for each in work]
    except* ReflowError as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from errors
    return [task.result() for task in tasks]


def _metadata(content_hash: Digest | None) -> dict[str, str]:
    return {} if content_hash is None else {_HASH_KEY: content_hash.hex()}


def _promised(text: str) -> Digest | None:
    """A content hash as metadata have it: hex, with or without ``sha256:``; none when it is no digest."""
    if not text:
        return None
    try:
        return Digest.parse(text if text.startswith("sha256:") else f"sha256:{text}")
    except ReflowError:
        return None


def _md5_text(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _is_md5(etag: str) -> bool:
    return len(etag.strip('"')) == 32 and "-" not in etag


def _has_other_etag(answer: dict[str, Any]) -> bool:
    """Whether an object is encrypted in a way that makes its ETag no MD5."""
    is_kms = str(answer.get("ServerSideEncryption", "")).startswith("aws:")
    return is_kms or "SSECustomerAlgorithm" in answer


def _is_intact(data: bytes, answer: dict[str, Any]) -> bool:
    etag = str(answer.get("ETag", ""))
    if not _is_md5(etag) or _has_other_etag(answer):
        return True
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == etag.strip('"').lower()


def _write_whole(path: str, data: bytes) -> Digest:
    """Write a new file; one that cannot be written whole is removed."""
    try:
        with open(path, "xb") as stream:
            try:
                stream.write(data)
                stream.flush()
            except OSError:
                os.unlink(path)
                raise
    except OSError as err:
        raise translate_error(err, "s3.get_object", path) from err
    return Digest.of(data)


def _make_file(path: str, size: int) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        os.truncate(descriptor, size)
    except OSError as err:
        raise translate_error(err, "s3.get_object", path) from err
    return descriptor


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as err:
        raise translate_error(err, "s3.upload", path) from err


def _read_part_of(path: str, part: Part) -> bytes:
    try:
        with open(path, "rb") as stream:
            stream.seek(part.offset)
            data = stream.read(part.size)
    except OSError as err:
        raise translate_error(err, "s3.upload", path) from err
    if len(data) != part.size:
        cause = "it has become shorter while it was read"
        raise ReflowError(Kind.INTEGRITY, "s3.upload", path, cause=cause)
    return data


def _hash_file(path: str) -> tuple[Digest, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in _chunks(path):
        sha256.update(chunk)
        md5.update(chunk)
    return Digest(sha256.digest()), md5.hexdigest()


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


if TYPE_CHECKING:
    _: type[Store] = S3Store
    __: type[Bucket] = S3Bucket
