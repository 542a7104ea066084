#!/usr/bin/env python3
"""Move many files to S3 or from there by aiohttp, the way that was not taken (decision 0011).

usage: bench/s3aiohttp.py [--uvloop] up|down DIR s3://BUCKET/PREFIX MANIFEST
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from s3contender import ENDPOINT, Mover, main, signed
from yarl import URL

from reflow.blob.s3part import Part


class AiohttpMover(Mover):
    """One session, with as many connections as we have."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        super().__init__()
        self.session = session

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> Any:
        url = URL(f"{ENDPOINT.scheme}://{ENDPOINT.netloc}{target}", encoded=True)
        headers = signed(method, target, body, **headers)
        return self.session.request(method, url, data=body or None, headers=headers, raise_for_status=True)

    async def ask(self, method: str, target: str, body: bytes = b"") -> tuple[str, bytes]:
        async with self.request(method, target, body) as answer:
            return answer.headers.get("ETag", ""), await answer.read()

    async def pour(self, target: str, part: Part, descriptor: int) -> None:
        offset = part.offset
        async with self.request("GET", target, range=part.range) as answer:
            async for chunk in answer.content.iter_any():
                os.pwrite(descriptor, chunk, offset)
                offset += len(chunk)


@asynccontextmanager
async def opened() -> AsyncIterator[AiohttpMover]:
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield AiohttpMover(session)


main(opened)
