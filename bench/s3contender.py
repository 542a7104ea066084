"""What the ways to move files to S3 that were not taken have in common (decision 0011).

No error is handled. The endpoint and the credentials come from the environment.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import urlsplit

from reflow.aws.sigv4 import EMPTY_PAYLOAD, Access, Scope, authorization, encoded, timestamp
from reflow.blob.gather import MOVED_AT_ONCE
from reflow.blob.s3part import READ_PART, READ_WHOLE, SMALLEST_PART, Part, parts

ENDPOINT = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"])
_ACCESS = Access(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], None)
_SCOPE = Scope(os.environ["AWS_DEFAULT_REGION"], "s3")
_PARTS_AT_ONCE = 32


def signed(method: str, target: str, body: bytes, **headers: str) -> dict[str, str]:
    """The headers of a request."""
    payload = hashlib.sha256(body).hexdigest() if body else EMPTY_PAYLOAD
    made = {"host": ENDPOINT.netloc, "x-amz-content-sha256": payload, "x-amz-date": timestamp(), **headers}
    made["authorization"] = authorization(method, target, made, payload, _ACCESS, _SCOPE)
    return made


class Mover(ABC):
    """Moves files; how requests are made is a contender's own."""

    def __init__(self) -> None:
        self._parts = asyncio.Semaphore(_PARTS_AT_ONCE)

    @abstractmethod
    async def ask(self, method: str, target: str, body: bytes = b"") -> tuple[str, bytes | bytearray]:
        """Make a request: the ETag and the body of its answer."""

    @abstractmethod
    async def pour(self, target: str, part: Part, descriptor: int) -> None:
        """Write a part of an object to its place in a file, as it comes."""

    async def up(self, target: str, path: str, size: int) -> None:
        """Upload a file, in parts if it is large."""
        if size <= SMALLEST_PART:
            await self.ask("PUT", target, await asyncio.to_thread(_read, path, 0, size))
            return
        _, text = await self.ask("POST", f"{target}?uploads=")
        upload = encoded(re.findall(b"<UploadId>(.*)</UploadId>", text)[0].decode())

        async def send(part: Part) -> str:
            async with self._parts:
                body = await asyncio.to_thread(_read, path, part.offset, part.size)
                etag, _ = await self.ask("PUT", f"{target}?partNumber={part.number}&uploadId={upload}", body)
            return f"<Part><PartNumber>{part.number}</PartNumber><ETag>{etag}</ETag></Part>"

        rows = await asyncio.gather(*map(send, parts(size, SMALLEST_PART)))
        body = f"<CompleteMultipartUpload>{''.join(rows)}</CompleteMultipartUpload>".encode()
        await self.ask("POST", f"{target}?uploadId={upload}", body)

    async def down(self, target: str, path: str, size: int) -> None:
        """Download an object, in parts if it is large, and take its digest."""
        if size <= READ_WHOLE:
            _, data = await self.ask("GET", target)
            await asyncio.to_thread(_write, path, data)
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

        async def fetch(part: Part) -> None:
            async with self._parts:
                await self.pour(target, part, descriptor)

        await asyncio.gather(*map(fetch, parts(size, READ_PART)))
        os.close(descriptor)
        await asyncio.to_thread(_digest, path)


def _read(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def _write(path: str, data: bytes | bytearray) -> bytes:
    with open(path, "xb") as stream:
        stream.write(data)
    return hashlib.sha256(data).digest()


def _digest(path: str) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def main(open_mover: Callable[[], AbstractAsyncContextManager[Mover]]) -> None:
    """Do what the command line says: ``[--uvloop] up|down DIR s3://BUCKET/PREFIX MANIFEST``."""
    *flags, verb, directory, url, manifest = sys.argv[1:]
    rest = iter(json.loads(Path(manifest).read_text()).items())

    async def move_all() -> None:
        async with open_mover() as mover:
            move = mover.up if verb == "up" else mover.down

            async def some() -> None:
                for name, size in rest:
                    await move(f"/{url.removeprefix('s3://')}{name}", os.path.join(directory, name), size)

            await asyncio.gather(*[some() for _ in range(MOVED_AT_ONCE)])

    run = asyncio.run
    if flags:
        import uvloop

        run = uvloop.run
    run(move_all())
