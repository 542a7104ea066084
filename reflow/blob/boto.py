"""The calls that move bytes, through boto3's client in threads."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reflow.aws.error import translate, translating
from reflow.blob.datapath import Body, DataPath, FilePart, Place, Received, Target, Write, payer
from reflow.blob.outgoing import size_of
from reflow.blob.s3part import Part
from reflow.core.errors import Kind, ReflowError
from reflow.disk.blocking import Blocking, to_the_end
from reflow.disk.filesystem import translate_error

_CHUNK = 1 << 20
_METADATA = "x-amz-meta-"
_REGION = "x-amz-bucket-region"
_SAYS = (301, 400, 403)
"""Refusals that say where a bucket is."""
_PARAMETERS = {"content-type": "ContentType", "if-match": "IfMatch", "if-none-match": "IfNoneMatch"}


def open_boto(place: Place) -> DataPath:
    """A data path; blocks while AWS's description of S3 is read."""
    return BotoDataPath(place.session.client("s3", place.region), place.bucket, place.blocking)


class BotoDataPath(DataPath):
    """Calls through one client."""

    def __init__(self, client: Any, bucket: str, blocking: Blocking) -> None:
        self._client = client
        self._bucket = bucket
        self._blocking = blocking
        self._payer = {"RequestPayer": payer()} if payer() else {}

    async def region(self) -> str:
        """Where the bucket says that it is; empty when it does not say."""
        return await self._blocking(self._region)

    async def head(self, target: Target) -> Received:
        """What is known of an object."""
        more = {"IfMatch": target.etag} if target.etag else {}
        answer = await self._blocking(self._call, "head_object", target, **more)
        return _received(answer, answer["ContentLength"])

    async def read(self, target: Target, part: Part | None = None) -> tuple[bytes, Received]:
        """An object, or a part of it, in memory."""
        stop = threading.Event()
        return await to_the_end(self._blocking(self._read, target, part, stop), stop.set)

    async def read_into(
        self, target: Target, begin: Callable[[Received], Write], part: Part | None = None
    ) -> Received:
        """Hand on an object, or a part of it."""
        stop = threading.Event()
        work = self._blocking(self._read_into, target, begin, part, stop)
        return await to_the_end(work, stop.set)

    async def put(self, target: Target, body: Body, headers: dict[str, str]) -> str:
        """Store an object."""
        stop = threading.Event()
        work = self._blocking(self._send, "put_object", target, body, stop, _parameters(headers))
        return await to_the_end(work, stop.set)

    async def put_file(self, target: Target, path: str, headers: dict[str, str], *, most: int) -> int:
        """Store a file that is not larger than ``most``; its size."""
        size = await self._blocking(size_of, path)
        if size <= most:
            await self.put(target, FilePart(path, 0, size), headers)
        return size

    async def put_part(self, target: Target, upload: str, number: int, body: Body) -> str:
        """Store one part of a multipart upload."""
        stop = threading.Event()
        more = {"UploadId": upload, "PartNumber": number}
        return await to_the_end(self._blocking(self._send, "upload_part", target, body, stop, more), stop.set)

    async def close(self) -> None:
        """The client is the session's, the threads are the store's."""

    def _region(self) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.head_bucket(Bucket=self._bucket)
        except ClientError as err:
            answer = err.response
            about = answer["ResponseMetadata"]
            status = about.get("HTTPStatusCode")
            if status not in _SAYS or (_REGION not in about.get("HTTPHeaders", {}) and status != 403):
                raise translate(err, "s3.bucket", self._bucket) from err
        except BotoCoreError as err:
            raise translate(err, "s3.bucket", self._bucket) from err
        region: str = answer["ResponseMetadata"].get("HTTPHeaders", {}).get(_REGION, "")
        return region

    def _call(self, op: str, target: Target, **arguments: Any) -> dict[str, Any]:
        with translating(f"s3.{op}", target.url):
            answer: dict[str, Any] = getattr(self._client, op)(
                Bucket=target.bucket, Key=target.key, **arguments, **self._payer
            )
        return answer

    def _open(self, target: Target, part: Part | None, stop: threading.Event) -> tuple[Any, dict[str, Any]]:
        _look_at(stop)
        more = {"IfMatch": target.etag} if target.etag else {}
        if part is not None:
            more["Range"] = part.range
        answer = self._call("get_object", target, **more)
        return answer["Body"], answer

    def _read(self, target: Target, part: Part | None, stop: threading.Event) -> tuple[bytes, Received]:
        body, answer = self._open(target, part, stop)
        chunks = []
        with contextlib.closing(body):
            while not stop.is_set() and (chunk := _next_chunk(body, target)):
                chunks.append(chunk)
        data = b"".join(chunks)
        _check_size(target, len(data), answer, part)
        return data, _received(answer, len(data))

    def _read_into(
        self, target: Target, begin: Callable[[Received], Write], part: Part | None, stop: threading.Event
    ) -> Received:
        body, answer = self._open(target, part, stop)
        start = offset = part.offset if part is not None else 0
        with contextlib.closing(body):
            write = begin(_received(answer, answer["ContentLength"]))
            while not stop.is_set() and (chunk := _next_chunk(body, target)):
                write(memoryview(chunk), offset)
                offset += len(chunk)
        _check_size(target, offset - start, answer, part)
        return _received(answer, offset - start)

    def _send(self, op: str, target: Target, body: Body, stop: threading.Event, more: dict[str, Any]) -> str:
        _look_at(stop)
        data = body if isinstance(body, bytes) else _read_file(body)
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        answer = self._call(op, target, Body=_Sending(data, stop), ContentMD5=md5, **more)
        etag: str = answer.get("ETag", "")
        return etag


class _Sending(io.BytesIO):
    """Bytes that are sent, until somebody says stop."""

    def __init__(self, data: bytes, stop: threading.Event) -> None:
        super().__init__(data)
        self._stop = stop

    def read(self, size: int | None = -1) -> bytes:
        _look_at(self._stop)
        return super().read(size)


def _look_at(stop: threading.Event) -> None:
    if stop.is_set():
        raise ReflowError(Kind.CANCELED)


def _next_chunk(body: Any, target: Target) -> bytes:
    with translating("s3.get_object", target.url):
        chunk: bytes = body.read(_CHUNK)
    return chunk


def _check_size(target: Target, size: int, answer: dict[str, Any], part: Part | None) -> None:
    wanted = answer["ContentLength"] if part is None else part.size
    if size != wanted:
        cause = f"got {size} bytes, want {wanted}"
        raise ReflowError(Kind.TEMPORARY, "s3.get_object", target.url, cause=cause)


def _received(answer: dict[str, Any], size: int) -> Received:
    return Received(size, answer.get("ETag", ""), answer["ResponseMetadata"]["HTTPHeaders"])


def _parameters(headers: dict[str, str]) -> dict[str, Any]:
    """Headers as boto3 names them."""
    metadata = {
        name.removeprefix(_METADATA): value for name, value in headers.items() if name.startswith(_METADATA)
    }
    others = {_PARAMETERS[name]: value for name, value in headers.items() if not name.startswith(_METADATA)}
    return {"Metadata": metadata, **others}


def _read_file(part: FilePart) -> bytes:
    try:
        with open(part.path, "rb") as stream:
            stream.seek(part.offset)
            data = stream.read(part.size)
    except OSError as err:
        raise translate_error(err, "s3.upload", part.path) from err
    if len(data) != part.size:
        cause = "it has become shorter while it was read"
        raise ReflowError(Kind.INTEGRITY, "s3.upload", part.path, cause=cause)
    return data


if TYPE_CHECKING:
    _: type[DataPath] = BotoDataPath
