#!/usr/bin/env python3
"""Move many files to S3 or from there by aiohttp, the way that was not taken (decision 0011).

usage: bench/s3aiohttp.py [--uvloop] up|down DIR s3://BUCKET/PREFIX MANIFEST

No error is handled. The endpoint and the credentials come from the environment.
"""

import asyncio
import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from reflow.aws.sigv4 import EMPTY_PAYLOAD, Access, Scope, authorization, encoded, timestamp
from reflow.blob.gather import MOVED_AT_ONCE
from reflow.blob.s3part import READ_PART, READ_WHOLE, SMALLEST_PART, Part, parts

ENDPOINT = os.environ["AWS_ENDPOINT_URL_S3"]
ACCESS = Access(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], None)
SCOPE = Scope(os.environ["AWS_DEFAULT_REGION"], "s3")
PARTS_AT_ONCE = 32


class Mover:
    """Moves files."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.parts = asyncio.Semaphore(PARTS_AT_ONCE)

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> Any:
        payload = hashlib.sha256(body).hexdigest() if body else EMPTY_PAYLOAD
        signed = {
            "host": ENDPOINT.removeprefix("http://"),
            "x-amz-content-sha256": payload,
            "x-amz-date": timestamp(),
            **headers,
        }
        signed["authorization"] = authorization(method, target, signed, payload, ACCESS, SCOPE)
        url = URL(ENDPOINT + target, encoded=True)
        return self.session.request(method, url, data=body or None, headers=signed, raise_for_status=True)

    async def up(self, target: str, path: str, size: int) -> None:
        if size <= SMALLEST_PART:
            body = await asyncio.to_thread(read, path, 0, size)
            async with self.request("PUT", target, body):
                return
        async with self.request("POST", f"{target}?uploads=") as answer:
            upload = re.findall("<UploadId>(.*)</UploadId>", await answer.text())[0]

        async def send(part: Part) -> str:
            async with self.parts:
                body = await asyncio.to_thread(read, path, part.offset, part.size)
                query = f"partNumber={part.number}&uploadId={encoded(upload)}"
                async with self.request("PUT", f"{target}?{query}", body) as answer:
                    etag = answer.headers["ETag"]
            return f"<Part><PartNumber>{part.number}</PartNumber><ETag>{etag}</ETag></Part>"

        rows = await asyncio.gather(*map(send, parts(size, SMALLEST_PART)))
        body = f"<CompleteMultipartUpload>{''.join(rows)}</CompleteMultipartUpload>".encode()
        async with self.request("POST", f"{target}?uploadId={encoded(upload)}", body) as answer:
            await answer.read()

    async def down(self, target: str, path: str, size: int) -> None:
        if size <= READ_WHOLE:
            async with self.request("GET", target) as answer:
                await asyncio.to_thread(write, path, await answer.read())
                return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

        async def fetch(part: Part) -> None:
            async with self.parts, self.request("GET", target, range=part.range) as answer:
                offset = part.offset
                async for chunk in answer.content.iter_any():
                    os.pwrite(descriptor, chunk, offset)
                    offset += len(chunk)

        await asyncio.gather(*map(fetch, parts(size, READ_PART)))
        os.close(descriptor)
        await asyncio.to_thread(digest, path)


def read(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def write(path: str, data: bytes) -> bytes:
    with open(path, "xb") as stream:
        stream.write(data)
    return hashlib.sha256(data).digest()


def digest(path: str) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


async def main(verb: str, directory: str, url: str, manifest: str) -> None:
    rest = iter(json.loads(manifest).items())
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        mover = Mover(session)

        async def some() -> None:
            for name, size in rest:
                target = f"/{url.removeprefix('s3://')}{name}"
                await getattr(mover, verb)(target, os.path.join(directory, name), size)

        await asyncio.gather(*[some() for _ in range(MOVED_AT_ONCE)])


*flags, verb, directory, url, manifest = sys.argv[1:]
run = asyncio.run
if flags:
    import uvloop

    run = uvloop.run
run(main(verb, directory, url, Path(manifest).read_text()))
