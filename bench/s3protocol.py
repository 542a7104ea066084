#!/usr/bin/env python3
"""Move many files to S3 or from there by protocols of asyncio, another way not taken (decision 0011).

usage: bench/s3protocol.py [--uvloop] up|down DIR s3://BUCKET/PREFIX MANIFEST

No error is handled. The endpoint and the credentials come from the environment.
"""

import asyncio
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from reflow.aws.sigv4 import EMPTY_PAYLOAD, Access, Scope, authorization, encoded, timestamp
from reflow.blob.gather import MOVED_AT_ONCE
from reflow.blob.s3part import READ_PART, READ_WHOLE, SMALLEST_PART, Part, parts

ENDPOINT = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"])
ACCESS = Access(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], None)
SCOPE = Scope(os.environ["AWS_DEFAULT_REGION"], "s3")
PARTS_AT_ONCE = 32
Sink = Callable[[memoryview], object]


class Line(asyncio.BufferedProtocol):
    """One connection; bodies go to a sink as they come."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(1 << 20))
        self.filled = 0
        self.left = -1
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer[self.filled :]

    def buffer_updated(self, size: int) -> None:
        self.filled += size
        if self.left < 0:
            end = bytes(self.buffer[: self.filled]).find(b"\r\n\r\n")
            if end < 0:
                return
            self.head = bytes(self.buffer[:end])
            found = re.search(rb"(?i)content-length: (\d+)", self.head)
            self.left = int(found[1]) if found else 0
            start = end + 4
        else:
            start = 0
        self.sink(self.buffer[start : self.filled])
        self.left -= self.filled - start
        self.filled = 0
        if self.left == 0:
            self.left = -1
            self.done.set_result(self.head)

    async def ask(self, head: bytes, body: bytes, sink: Sink) -> bytes:
        self.sink = sink
        self.done = asyncio.get_running_loop().create_future()
        self.transport.writelines([head, body] if body else [head])
        return await self.done


class Mover:
    """Moves files."""

    def __init__(self) -> None:
        self.idle: list[Line] = []
        self.parts = asyncio.Semaphore(PARTS_AT_ONCE)

    async def request(
        self, method: str, target: str, body: bytes = b"", sink: Sink = len, **headers: str
    ) -> bytes:
        payload = hashlib.sha256(body).hexdigest() if body else EMPTY_PAYLOAD
        signed = {
            "host": ENDPOINT.netloc,
            "x-amz-content-sha256": payload,
            "x-amz-date": timestamp(),
            "content-length": str(len(body)),
            **headers,
        }
        signed["authorization"] = authorization(method, target, signed, payload, ACCESS, SCOPE)
        head = (
            f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in signed.items()) + "\r\n"
        )
        if self.idle:
            line = self.idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, line = await loop.create_connection(Line, ENDPOINT.hostname, ENDPOINT.port)
        answer = await line.ask(head.encode(), body, sink)
        assert b" 20" in answer[:12], answer
        self.idle.append(line)
        return answer

    async def up(self, target: str, path: str, size: int) -> None:
        if size <= SMALLEST_PART:
            await self.request("PUT", target, await asyncio.to_thread(read, path, 0, size))
            return
        text = bytearray()
        await self.request("POST", f"{target}?uploads=", b"", text.extend)
        upload = re.findall(b"<UploadId>(.*)</UploadId>", text)[0].decode()

        async def send(part: Part) -> str:
            async with self.parts:
                body = await asyncio.to_thread(read, path, part.offset, part.size)
                query = f"partNumber={part.number}&uploadId={encoded(upload)}"
                head = await self.request("PUT", f"{target}?{query}", body)
                etag = re.findall(b"(?i)etag: (.*)\r", head)[0].decode()
            return f"<Part><PartNumber>{part.number}</PartNumber><ETag>{etag}</ETag></Part>"

        rows = await asyncio.gather(*map(send, parts(size, SMALLEST_PART)))
        body = f"<CompleteMultipartUpload>{''.join(rows)}</CompleteMultipartUpload>".encode()
        await self.request("POST", f"{target}?uploadId={encoded(upload)}", body)

    async def down(self, target: str, path: str, size: int) -> None:
        if size <= READ_WHOLE:
            data = bytearray()
            await self.request("GET", target, b"", data.extend)
            await asyncio.to_thread(write, path, data)
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

        async def fetch(part: Part) -> None:
            offset = part.offset

            def sink(data: memoryview) -> None:
                nonlocal offset
                offset += os.pwrite(descriptor, data, offset)

            async with self.parts:
                await self.request("GET", target, b"", sink, range=part.range)

        await asyncio.gather(*map(fetch, parts(size, READ_PART)))
        os.close(descriptor)
        await asyncio.to_thread(digest, path)


def read(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def write(path: str, data: bytearray) -> bytes:
    with open(path, "xb") as stream:
        stream.write(data)
    return hashlib.sha256(data).digest()


def digest(path: str) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


async def main(verb: str, directory: str, url: str, manifest: str) -> None:
    rest = iter(json.loads(manifest).items())
    mover = Mover()

    async def some() -> None:
        for name, size in rest:
            target = f"/{url.removeprefix('s3://')}{name}"
            await getattr(mover, verb)(target, os.path.join(directory, name), size)

    await asyncio.gather(*[some() for _ in range(MOVED_AT_ONCE)])
    for line in mover.idle:
        line.transport.close()


*flags, verb, directory, url, manifest = sys.argv[1:]
run = asyncio.run
if flags:
    import uvloop

    run = uvloop.run
run(main(verb, directory, url, Path(manifest).read_text()))
