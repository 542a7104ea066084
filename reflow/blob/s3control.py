"""The calls that move no bytes (lists, copies, deletions, uploads in parts), through boto3 in threads."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from reflow.aws.error import is_passing, kind_of_code, translating
from reflow.aws.retry import CALLS, retrying
from reflow.blob.datapath import payer
from reflow.blob.gather import gather
from reflow.core.backoff import Backoff
from reflow.core.errors import Kind, ReflowError
from reflow.disk.blocking import Blocking, to_the_end

_ALWAYS_THERE = {
    "complete_multipart_upload": "ETag",
    "copy_object": "CopyObjectResult.ETag",
    "create_multipart_upload": "UploadId",
    "list_multipart_uploads": "IsTruncated",
    "list_objects_v2": "IsTruncated",
    "list_parts": "IsTruncated",
    "upload_part_copy": "CopyPartResult.ETag",
}
"""What answers have that came whole: to boto3 a body that is lost altogether is an empty one."""

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that the body of a request for many deletions cannot have."""


class Control:
    """Calls about one bucket.

    ``client`` gives boto3's, made when the first call needs it. ``uploads`` are the ids of this process's
    uploads that are under way.
    """

    def __init__(self, name: str, client: Callable[[], Any], blocking: Blocking) -> None:
        self.name = name
        self.uploads: set[str] = set()
        self.blocking = blocking
        self._client = client
        self._more: dict[str, Any] = {"Bucket": name}
        if payer():
            self._more["RequestPayer"] = payer()

    def url(self, key: str) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.name}/{key}"

    async def call(self, op: str, key: str, policy: Backoff = CALLS, **arguments: Any) -> dict[str, Any]:
        """Make a call, by its name in boto3's client, until it succeeds or will not."""
        return await retrying(lambda: self.once(op, key, **arguments), policy)

    async def once(self, op: str, key: str, **arguments: Any) -> dict[str, Any]:
        """Make a call. Once it returns or raises, also by cancellation, it is not under way any more."""
        return await to_the_end(self.blocking(self._once, op, key, arguments))

    def _once(self, op: str, key: str, arguments: dict[str, Any]) -> dict[str, Any]:
        with translating(f"s3.{op}", self.url(key)):
            answer: dict[str, Any] = getattr(self._client(), op)(**arguments, **self._more)
        if missing := _missing(op, answer):
            cause = f"an answer without {missing}: cut on its way"
            raise ReflowError(Kind.TEMPORARY, f"s3.{op}", self.url(key), cause=cause)
        return answer

    async def delete(self, keys: Collection[str], at_once: int) -> None:
        """Delete objects; those that the server says may go later are tried again."""
        rest = [key for key in dict.fromkeys(keys) if not _NOT_XML.search(key)]
        await gather(self._delete_one, [key for key in keys if _NOT_XML.search(key)])
        for start in range(0, len(rest), at_once):
            await self._delete(rest[start : start + at_once])

    async def _delete_one(self, key: str) -> None:
        await self.call("delete_object", key, Key=key)

    async def _delete(self, keys: list[str]) -> None:
        rest = keys

        async def once() -> None:
            nonlocal rest
            answer = await self.once("delete_objects", "", Delete={"Objects": [{"Key": key} for key in rest]})
            errors = [self._not_deleted(row) for row in answer.get("Errors", [])]
            if len(errors) + len(answer.get("Deleted", [])) != len(rest):
                cause = "an answer that does not tell of all keys: cut on its way"
                raise ReflowError(Kind.TEMPORARY, "s3.delete_objects", self.url(""), cause=cause)
            rest = [error.key for error in errors if is_passing(error)]
            for error in sorted(errors, key=is_passing):
                raise error

        await retrying(once)

    def _not_deleted(self, row: dict[str, Any]) -> _NotDeletedError:
        code, key, message = row.get("Code", ""), row.get("Key", ""), row.get("Message", "")
        return _NotDeletedError(key, kind_of_code(code), self.url(key), f"{code}: {message}")


def _missing(op: str, answer: dict[str, Any]) -> str:
    """What an answer should have and has not; empty when that is nothing."""
    wanted = _ALWAYS_THERE.get(op, "")
    found: Any = answer
    for name in wanted.split(".") if wanted else ():
        found = found.get(name)
        if found is None:
            return wanted
    return ""


class _NotDeletedError(ReflowError):
    """One object that was not deleted."""

    def __init__(self, key: str, kind: Kind, url: str, cause: str) -> None:
        super().__init__(kind, "s3.delete_objects", url, cause=cause)
        self.key = key
