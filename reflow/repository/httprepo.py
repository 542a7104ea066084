"""The repository of an agent's alloc, over HTTP.

Source: repository/client/client.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from reflow.core.bloom import BloomFilter
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.fileset import File
from reflow.repository import Repository
from reflow.rest import Rest

_READ_FROM = "reflow-read-from"


class HttpRepository:
    """Objects at ``path`` of an agent."""

    def __init__(self, rest: Rest, path: str) -> None:
        self._rest = rest
        self._path = path

    @property
    def url(self) -> str:
        """``HOST:PORT/PATH``."""
        return f"{self._rest.host}/{self._path}"

    async def stat(self, digest: Digest) -> File:
        """Return id and size (bytes) of an object. Raises NOT_EXIST."""
        try:
            size = await self._rest.head(f"{self._path}{digest}")
        except ReflowError as err:
            if err.kind is not Kind.NOT_EXIST:
                raise
            raise ReflowError(Kind.NOT_EXIST, cause=f"file {digest} does not exist") from err
        return File(digest, size)

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of ``digests`` that are not here, or have another size than the mapping says."""
        sizes = digests if isinstance(digests, Mapping) else {}
        found = set()
        for digest in digests:
            try:
                file = await self.stat(digest)
            except ReflowError as err:
                if kind_of(err) is not Kind.NOT_EXIST:
                    raise
                found.add(digest)
                continue
            if file.size != sizes.get(digest, file.size):
                found.add(digest)
        return found

    async def get(self, digest: Digest) -> AsyncIterator[bytes]:
        """Stream an object. Raises NOT_EXIST."""
        async for chunk in self._rest.stream("GET", f"{self._path}{digest}"):
            yield chunk

    async def read_many(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read small objects whole; an object that cannot be read has its error instead."""
        found: dict[Digest, bytes | ReflowError] = {}
        for digest in digests:
            try:
                found[digest] = await self._rest.send("GET", f"{self._path}{digest}")
            except ReflowError as err:
                found[digest] = err
        return found

    async def put(self, chunks: AsyncIterator[bytes]) -> Digest:
        """Store a stream."""
        return await self._put(chunks)

    async def put_bytes_many(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store small objects; their digests in order."""
        return [await self._put(each) for each in objects]

    async def _put(self, body: bytes | AsyncIterator[bytes]) -> Digest:
        return Digest.parse(_text(await self._rest.send("POST", self._path, body)))

    async def close(self) -> None:
        """The connections are the alloc's."""

    async def write_to(self, digest: Digest, url: str) -> None:
        """Have the agent copy an object into the repository at a URL. Raises NOT_EXIST."""
        await self._rest.tell("POST", f"{self._path}{digest}/transfers", url)

    async def read_from(self, digest: Digest, url: str) -> None:
        """Have the agent fetch an object from the repository at a URL, if it has not got it."""
        await self._rest.send("PUT", f"{self._path}{digest}", headers={_READ_FROM: url})

    async def collect(self, live: BloomFilter) -> None:
        """Have the agent remove all objects that are not in a set."""
        await self._rest.tell("POST", f"{self._path}collect", live.to_json())


def _text(body: bytes) -> str:
    """A JSON string."""
    return body.decode(errors="replace").strip().strip('"')


if TYPE_CHECKING:
    _: type[Repository] = HttpRepository
