"""Objects that are made of parts: whole, or nothing is left of them."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from reflow.aws.error import is_passing
from reflow.aws.retry import CALLS, FIRST, retrying
from reflow.blob.datapath import Received
from reflow.blob.etag import HASH_KEY, is_kms, is_md5, promised
from reflow.blob.gather import gather
from reflow.blob.s3control import Control
from reflow.blob.s3part import Part
from reflow.core.backoff import Backoff
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.disk.blocking import to_the_end

Send = Callable[[str, Part], Coroutine[Any, Any, str]]
"""Makes a part of an upload, by the upload's id; the part's ETag."""

_ABORTS = 3
_SLACK_S = 2.0


class Multipart:
    """One object in the making. ``head`` tells what is at its key."""

    def __init__(self, control: Control, key: str, head: Callable[[], Coroutine[Any, Any, Received]]) -> None:
        self._control = control
        self._key = key
        self._head = head
        self._id = ""
        self._is_doubtful = False
        self._lost: list[str] = []

    async def make(self, pieces: Iterable[Part], send: Send, content_hash: Digest | None) -> None:
        """Send all parts (``send`` says how many at once) and put them together."""
        pieces = list(pieces)
        try:
            await self._begin(content_hash)
            etags = await gather(partial(send, self._id), pieces)
            await self._complete(etags, sum(part.size for part in pieces), content_hash)
        except BaseException:
            await to_the_end(self._abort(self._id))
            raise
        finally:
            self._control.uploads.discard(self._id)
            await to_the_end(self._abort_lost())

    async def _call(self, op: str, **arguments: Any) -> dict[str, Any]:
        return await self._control.once(op, self._key, Key=self._key, **arguments)

    async def _begin(self, content_hash: Digest | None) -> None:
        metadata = {HASH_KEY: content_hash.hex()} if content_hash is not None else {}
        started = time.monotonic()
        try:
            await retrying(lambda: to_the_end(self._create(metadata)))
        finally:
            if self._is_doubtful:
                await to_the_end(self._find_lost(started))

    async def _create(self, metadata: dict[str, str]) -> None:
        """Runs to its end, so that what it knows is not lost by cancellation."""
        try:
            self._id = (await self._call("create_multipart_upload", Metadata=metadata))["UploadId"]
        except ReflowError as err:
            self._is_doubtful = self._is_doubtful or is_passing(err)
            raise
        self._control.uploads.add(self._id)

    @property
    def _policy(self) -> Backoff:
        """How long to try to clean up: not long when the server answers nothing."""
        return CALLS if self._id else FIRST

    async def _find_lost(self, started: float) -> None:
        """Note uploads that were begun for this key since then: one may be ours whose id never came."""
        from email.utils import parsedate_to_datetime  # several milliseconds, for what hardly ever happens

        with contextlib.suppress(ReflowError, KeyError, ValueError):
            page = await self._control.call(
                "list_multipart_uploads", self._key, self._policy, Prefix=self._key
            )
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            oldest = now.timestamp() - (time.monotonic() - started) - _SLACK_S
            self._lost = [
                row["UploadId"]
                for row in page.get("Uploads", [])
                if row["Key"] == self._key and row["Initiated"].timestamp() >= oldest
            ]

    async def _abort_lost(self) -> None:
        """Remove those that nobody uses: whoever began another sends its parts meanwhile."""
        for upload in self._lost:
            with contextlib.suppress(ReflowError):
                if upload not in self._control.uploads and not await self._has_parts(upload):
                    await self._abort(upload)

    async def _has_parts(self, upload: str) -> bool:
        answer = await self._control.call(
            "list_parts", self._key, self._policy, Key=self._key, UploadId=upload, MaxParts=1
        )
        return bool(answer.get("Parts"))

    async def _abort(self, upload: str) -> None:
        """Remove an upload; again while the server still has it, for parts may have come in late."""
        if not upload:
            return
        named: dict[str, Any] = {"Key": self._key, "UploadId": upload}
        with contextlib.suppress(ReflowError):
            for _ in range(_ABORTS):
                await self._control.call("abort_multipart_upload", self._key, **named)
                await self._control.call("list_parts", self._key, FIRST, **named, MaxParts=1)

    async def _complete(self, etags: list[str], size: int, content_hash: Digest | None) -> None:
        """Put the parts together. When the answer was lost, the upload is gone and the object is there."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]

        async def once() -> None:
            try:
                await self._call(
                    "complete_multipart_upload", UploadId=self._id, MultipartUpload={"Parts": parts}
                )
            except ReflowError as err:
                is_gone = err.kind is Kind.NOT_EXIST
                if not (is_gone or is_passing(err)) or not await self._is_made(etags, size, content_hash):
                    raise

        await retrying(once)

    async def _is_made(self, etags: list[str], size: int, content_hash: Digest | None) -> bool:
        """Whether the object that these parts make is there."""
        try:
            found = await retrying(self._head, FIRST)
        except ReflowError as err:
            if err.kind is Kind.NOT_EXIST:
                return False
            raise
        if found.etag == etag_of_parts(etags):
            return True
        # ETags of what KMS encrypts are no sums: then by all else that is known.
        return (
            is_kms(found.headers)
            and found.size == size
            and found.etag.endswith(f'-{len(etags)}"')
            and content_hash is not None
            and promised(found.headers) == content_hash
        )


def etag_of_parts(etags: list[str]) -> str:
    """The ETag of an object made of parts with these ETags; empty when they are no MD5s."""
    if not all(is_md5(etag) for etag in etags):
        return ""
    sums = b"".join(bytes.fromhex(etag.strip('"')) for etag in etags)
    return f'"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(etags)}"'
