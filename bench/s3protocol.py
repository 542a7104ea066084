#!/usr/bin/env python3
"""Move many files to S3 or from there by protocols of asyncio, another way not taken (decision 0011).

usage: bench/s3protocol.py [--uvloop] up|down DIR s3://BUCKET/PREFIX MANIFEST
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from s3contender import ENDPOINT, Mover, main, signed

from reflow.blob.s3part import Part

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


class ProtocolMover(Mover):
    """As many lines as are in use at once."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: list[Line] = []

    async def request(
        self, method: str, target: str, body: bytes = b"", sink: Sink = len, **headers: str
    ) -> bytes:
        length = {"content-length": str(len(body))}
        rows = [
            f"{name}: {value}\r\n"
            for name, value in signed(method, target, body, **length, **headers).items()
        ]
        head = f"{method} {target} HTTP/1.1\r\n{''.join(rows)}\r\n"
        if self.idle:
            line = self.idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, line = await loop.create_connection(Line, ENDPOINT.hostname, ENDPOINT.port)
        answer = await line.ask(head.encode(), body, sink)
        assert b" 20" in answer[:12], answer
        self.idle.append(line)
        return answer

    async def ask(self, method: str, target: str, body: bytes = b"") -> tuple[str, bytearray]:
        data = bytearray()
        head = await self.request(method, target, body, data.extend)
        etag = re.search(b"(?i)etag: (.*)\r", head)
        return etag[1].decode() if etag else "", data

    async def pour(self, target: str, part: Part, descriptor: int) -> None:
        offset = part.offset

        def sink(data: memoryview) -> None:
            nonlocal offset
            offset += os.pwrite(descriptor, data, offset)

        await self.request("GET", target, b"", sink, range=part.range)


@asynccontextmanager
async def opened() -> AsyncIterator[ProtocolMover]:
    mover = ProtocolMover()
    yield mover
    for line in mover.idle:
        line.transport.close()


main(opened)
