"""Buckets of S3.

Bytes go through a `DataPath`, all other calls through boto3 (`s3control`). Every call is tried again when it
may pass (`reflow.aws.retry`). What is sent carries a sum, so that a server refuses what was damaged; what is
received whole is compared with its ETag where that is an MD5, and with the SHA-256 in its metadata where it
has one. ``AWS_REQUEST_PAYER=requester`` says that requests may be charged to us.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from reflow.aws.error import RefusedError, is_passing
from reflow.aws.retry import FIRST, retrying
from reflow.aws.session import AwsSession
from reflow.blob import Bucket, Observe, Store
from reflow.blob.asserting import snapshot_of
from reflow.blob.datapath import DataPath, FilePart, OpenDataPath, Place, Received, Target
from reflow.blob.download import Download
from reflow.blob.etag import HASH_HEADER, Sums, again_if_damaged, promised
from reflow.blob.gather import call_off, gather
from reflow.blob.key import check_key, check_prefix
from reflow.blob.multipart import Multipart, Send
from reflow.blob.route import open_path
from reflow.blob.s3control import Control
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
from reflow.blob.shares import Shares
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.disk.blocking import Blocking
from reflow.disk.controlgroup import usable_cpus

_THREADS = 64
_SENT_AT_ONCE = 32
_RECEIVED_AT_ONCE = (8, 32)
"""Parts that are received at the same time, at least and at most: 4 for each processor (decision 0011)."""
_CHUNK = 1 << 20
_SUMMED_AT_ONCE = 128 << 10
_UNEXPLAINED = (400, 403)
_EMPTY = 416
"""HTTP's status for a range of an empty object."""


class Cuts(NamedTuple):
    """How work is cut: copies, in bytes; lists and deletions, in keys. Only tests have others than these."""

    copied_whole: int = COPIED_WHOLE
    copied_part: int = COPIED_PART
    listed: int = 1000
    deleted: int = 1000


class S3Store(Store):
    """Buckets by name, each asked for in its own region. One for each process.

    ``data_path`` opens what moves the bytes of a bucket's objects.
    """

    def __init__(
        self, session: AwsSession, data_path: OpenDataPath = open_path, cuts: Cuts | None = None
    ) -> None:
        self._session = session
        self._open_path = data_path
        self._cuts = cuts or Cuts()
        self._blocking = Blocking("s3", _THREADS)
        self._paths: dict[str, DataPath] = {}
        self._buckets: dict[str, S3Bucket] = {}
        self._opening = asyncio.Lock()

    async def bucket(self, name: str) -> Bucket:
        """A bucket, wherever it is. Raises NOT_EXIST or NOT_ALLOWED."""
        async with self._opening:
            if name not in self._buckets:
                region, path = await self._locate(name)
                self._paths[name] = path
                control = Control(name, partial(self._session.client, "s3", region), self._blocking)
                self._buckets[name] = S3Bucket(control, path, self._cuts)
            return self._buckets[name]

    async def _locate(self, name: str) -> tuple[str, DataPath]:
        """Where a bucket is, and the way to it. It need not be one that we may list."""
        nearest = Place(self._session, self._session.region, name, self._blocking)
        path = await self._blocking(self._open_path, nearest)
        try:
            region = await retrying(path.region, FIRST) or nearest.region
        except BaseException:
            await path.close()
            raise
        if region != nearest.region:
            await path.close()
            path = await self._blocking(self._open_path, nearest._replace(region=region))
        return region, path

    async def close(self) -> None:
        """Let go of connections and threads."""
        self._buckets.clear()
        for path in self._paths.values():
            await path.close()
        self._paths.clear()
        self._blocking.close()
        self._session.close()


class S3Bucket(Bucket):
    """One bucket."""

    def __init__(self, control: Control, path: DataPath, cuts: Cuts) -> None:
        self.name = control.name
        self._control = control
        self._path = path
        self._cuts = cuts
        self._sending = asyncio.Semaphore(_SENT_AT_ONCE)
        least, most = _RECEIVED_AT_ONCE
        self._receiving = Shares(min(most, max(least, 4 * usable_cpus())))

    @property
    def location(self) -> str:
        """``s3://name/``."""
        return self._control.url("")

    def _target(self, key: str, etag: str = "") -> Target:
        check_key(self._control.url(key), key)
        return Target(self.name, key, etag)

    # Looking.

    async def file(self, key: str) -> File:
        """What is known of an object."""
        return self._file(key, await self._head(self._target(key)))

    async def _head(self, target: Target) -> Received:
        return await retrying(lambda: self._head_once(target))

    async def _head_once(self, target: Target) -> Received:
        """Ask for an object's metadata. Refusals have no text there, so the reason is asked for by a read."""
        try:
            return await self._path.head(target)
        except RefusedError as err:
            if err.status not in _UNEXPLAINED:
                raise
            refused = err
        try:
            await self._path.read(target, Part(1, 0, 1))
        except RefusedError as err:
            if err.status != _EMPTY:
                raise
        raise ReflowError(Kind.TEMPORARY, "s3.head_object", target.url, cause=refused.cause) from refused

    def _file(self, key: str, known: Received) -> File:
        from email.utils import (
            parsedate_to_datetime,
        )  # several milliseconds; who moves bytes asks for no dates

        when = known.headers.get("last-modified", "")
        return File(
            None,
            known.size,
            self._control.url(key),
            known.etag,
            parsedate_to_datetime(when) if when else None,
            promised(known.headers),
        )

    async def scan(self, prefix: str, *, has_metadata: bool = False) -> AsyncIterator[tuple[str, File]]:
        """Every key with that prefix, page by page."""
        check_prefix(self._control.url(prefix), prefix)
        token: dict[str, Any] = {}
        while True:
            page = await self._control.call(
                "list_objects_v2", prefix, Prefix=prefix, MaxKeys=self._cuts.listed, **token
            )
            found = [(row["Key"], self._listed(row)) for row in page.get("Contents", [])]
            if has_metadata:
                found = await gather(self._with_metadata, found)
            for entry in found:
                yield entry
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _listed(self, row: dict[str, Any]) -> File:
        return File(None, row["Size"], self._control.url(row["Key"]), row["ETag"], row["LastModified"])

    async def _with_metadata(self, listed: tuple[str, File]) -> tuple[str, File]:
        """With what only the object itself tells; without, when it cannot be asked."""
        try:
            return listed[0], await self.file(listed[0])
        except ReflowError:
            return listed

    async def snapshot(self, prefix: str) -> Fileset:
        """References to what is there; see `reflow.blob.Bucket.snapshot`."""
        return await snapshot_of(self, prefix)

    # Reading.

    async def read(self, key: str, *, etag: str = "") -> bytes:
        """Return a small object whole."""
        target = self._target(key, etag)

        async def once() -> bytes:
            data, received = await retrying(lambda: self._path.read(target))
            sums = Sums(received)
            await self._add(sums, data)
            sums.check("s3.get_object", target.url)
            return data

        return await again_if_damaged(once)

    async def _add(self, sums: Sums, data: bytes) -> None:
        """Add to sums; what takes longer than to change threads is done in one."""
        if len(data) < _SUMMED_AT_ONCE:
            sums.update(data)
        else:
            await self._control.blocking(sums.update, data)

    async def _known(self, key: str, etag: str) -> Received:
        """The metadata of the version that is wanted."""
        known = await self._head(self._target(key))
        if etag and known.etag != etag:
            cause = f"its ETag is {known.etag}, want {etag}"
            raise ReflowError(Kind.PRECONDITION, "s3.get_object", self._control.url(key), cause=cause)
        return known

    async def get(self, key: str, *, etag: str = "") -> AsyncIterator[bytes]:
        """Stream an object by ranges of one version of it; one that fails is asked for again."""
        known = await self._known(key, etag)
        target = self._target(key, known.etag)
        sums = Sums(known)
        rest = parts(known.size, READ_PART)

        async def read(part: Part) -> bytes:
            data, _ = await retrying(lambda: self._path.read(target, part))
            await self._add(sums, data)
            return data

        def begin() -> asyncio.Task[bytes] | None:
            part = next(rest, None)
            return None if part is None else asyncio.ensure_future(read(part))

        ahead = begin()
        try:
            while ahead is not None:
                data = await ahead
                ahead = begin()
                for start in range(0, len(data), _CHUNK):
                    yield data[start : start + _CHUNK]
        finally:
            if ahead is not None:
                await call_off(ahead)
        sums.check("s3.get_object", target.url)

    async def download(
        self, key: str, path: str, *, size: int, etag: str = "", observe: Observe | None = None
    ) -> Digest:
        """Write an object to a new file; see `reflow.blob.Bucket.download`."""
        known = await self._known(key, etag) if size > READ_WHOLE else None
        target = self._target(key, etag if known is None else known.etag)
        work = Download(self._path, target, known, path, observe)
        return await work.run(self._control.blocking, self._receiving)

    # Writing.

    async def put(
        self, key: str, data: bytes, *, content_hash: Digest | None = None, if_absent: bool = False
    ) -> None:
        """Store a small object."""
        target = self._target(key)
        headers = _metadata(content_hash)
        if not if_absent:
            await retrying(lambda: self._path.put(target, data, headers))
            return
        is_doubtful = False

        async def once() -> None:
            nonlocal is_doubtful
            try:
                await self._path.put(target, data, {**headers, "if-none-match": "*"})
            except ReflowError as err:
                if err.kind is Kind.PRECONDITION and is_doubtful and await self._holds(key, data):
                    return
                is_doubtful = is_doubtful or is_passing(err)
                raise

        await retrying(once)

    async def _holds(self, key: str, data: bytes) -> bool:
        """Whether these bytes are there: then a put whose answer was lost was carried out."""
        try:
            return await self.read(key) == data
        except ReflowError as err:
            if err.kind is Kind.NOT_EXIST:
                return False
            raise

    async def upload(
        self, key: str, path: str, *, content_hash: Digest | None = None, observe: Observe | None = None
    ) -> None:
        """Store a file, in parts when it is large."""
        target, headers = self._target(key), _metadata(content_hash)

        async def send(upload: str, part: Part) -> str:
            body = FilePart(path, part.offset, part.size)
            async with self._sending:
                etag = await retrying(lambda: self._path.put_part(target, upload, part.number, body))
            if observe is not None:
                observe(part.size)
            return etag

        size = await retrying(lambda: self._path.put_file(target, path, headers, most=SMALLEST_PART))
        if size > SMALLEST_PART:
            await self._make(key, parts(size, upload_part_size(size)), send, content_hash)
        elif observe is not None:
            observe(size)

    async def _make(self, key: str, pieces: Iterable[Part], send: Send, content_hash: Digest | None) -> None:
        work = Multipart(self._control, key, lambda: self._head_once(self._target(key)))
        await work.make(pieces, send, content_hash)

    async def copy_from(
        self, source: Bucket, source_key: str, key: str, *, content_hash: Digest | None = None
    ) -> None:
        """Copy within S3; see `reflow.blob.Bucket.copy_from`."""
        assert isinstance(source, S3Bucket)
        check_key(self._control.url(key), key)
        file = await source.file(source_key)
        origin: dict[str, Any] = {
            "CopySource": {"Bucket": source.name, "Key": source_key},
            "CopySourceIfMatch": file.etag,
        }
        if file.size <= self._cuts.copied_whole:
            await self._control.call("copy_object", key, Key=key, **origin)
            return

        async def send(upload: str, part: Part) -> str:
            async with self._sending:
                answer = await self._control.call(
                    "upload_part_copy",
                    key,
                    Key=key,
                    UploadId=upload,
                    PartNumber=part.number,
                    CopySourceRange=part.range,
                    **origin,
                )
            etag: str = answer["CopyPartResult"]["ETag"]
            return etag

        pieces = parts(file.size, self._cuts.copied_part)
        await self._make(key, pieces, send, file.content_hash or content_hash)

    async def delete(self, keys: Collection[str]) -> None:
        """Delete objects."""
        for key in keys:
            check_key(self._control.url(key), key)
        await self._control.delete(keys, self._cuts.deleted)


def _metadata(content_hash: Digest | None) -> dict[str, str]:
    return {} if content_hash is None else {HASH_HEADER: content_hash.hex()}


if TYPE_CHECKING:
    _: type[Store] = S3Store
    __: type[Bucket] = S3Bucket
