"""Requests to an agent: JSON or bytes over HTTP, with errors that keep their kind.

An error's body is the error as JSON (`reflow.core.errors`); its kind counts, whatever the status. What has no
such body (answers to HEAD, pages of proxies) gets the kind that its status stands for.

Source: rest/client.go.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from reflow.core.errors import Kind, ReflowError, error_from_json
from reflow.core.gojson import dump_json

__all__ = ["Body", "Rest"]

Body = bytes | AsyncIterator[bytes] | None

_KINDS = {404: Kind.NOT_EXIST, 405: Kind.NOT_ALLOWED, 503: Kind.TEMPORARY}
_MOST_ERROR = 1 << 20
_SHOWN = 200
_CONNECT_TIMEOUT_S = 30.0
_CHUNK = 1 << 20


class Rest:
    """One agent at ``url`` (``https://HOST:PORT/v1/``); `close` ends its connections.

    Calls wait for as long as the agent takes: it may be running an exec. Raises ReflowErrors: those that the
    agent sent, NET when it cannot be reached or its answer is cut, TIMEOUT when it cannot be connected to.
    """

    def __init__(self, url: str, tls: SSLContext | None = None) -> None:
        self._url = url if url.endswith("/") else url + "/"
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    @property
    def host(self) -> str:
        """``HOST:PORT``, as ids of what the agent has begin."""
        return urlsplit(self._url).netloc

    async def close(self) -> None:
        """End its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send JSON, unless it is None; what JSON the agent answers."""
        data = None if body is None else dump_json(body) + b"\n"
        answer = await self.send(method, path, data)
        try:
            return json.loads(answer)
        except ValueError as err:
            raise self._unreadable(method, path, f"no JSON: {_shown(answer)}") from err

    async def tell(self, method: str, path: str, body: object = None) -> None:
        """Send JSON, unless it is None, when the answer says nothing but that all is well."""
        await self.send(method, path, None if body is None else dump_json(body) + b"\n")

    async def send(
        self, method: str, path: str, body: Body = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Send bytes; the bytes of the answer."""
        async with self._answer(method, path, body, headers) as answer:
            return await answer.read()

    async def head(self, path: str) -> int:
        """Ask for what is there without its bytes: how many they are, -1 if that is not said."""
        async with self._answer("HEAD", path, None, None) as answer:
            size = answer.headers.get("Content-Length", "")
            return int(size) if size.isdecimal() else -1

    async def stream(self, method: str, path: str, body: Body = None) -> AsyncIterator[bytes]:
        """Send bytes; those of the answer as they come, also before all is sent."""
        async with self._answer(method, path, body, None) as answer:
            async for chunk in answer.content.iter_any():
                for start in range(0, len(chunk), _CHUNK):
                    yield chunk[start : start + _CHUNK]

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: Body, headers: Mapping[str, str] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that says yes."""
        try:
            url = URL(self._url + path, encoded=True)
            async with self._open().request(method, url, data=body, headers=headers) as answer:
                if answer.status != 200:
                    raise await self._refusal(method, path, answer)
                yield answer
        except TimeoutError as err:
            cause = f"{self.host} does not answer: is its agent up, and its port open?"
            raise ReflowError(Kind.TIMEOUT, _op(method, path), self.host, cause=cause) from err
        except (aiohttp.ClientError, OSError) as err:
            raise ReflowError(Kind.NET, _op(method, path), self.host, cause=str(err) or repr(err)) from err

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                auto_decompress=False,
                skip_auto_headers=("Content-Type",),
            )
        return self._session

    async def _refusal(self, method: str, path: str, answer: aiohttp.ClientResponse) -> ReflowError:
        text = await answer.content.read(_MOST_ERROR)
        with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError):
            return error_from_json(json.loads(text))
        kind = _KINDS.get(answer.status, Kind.OTHER)
        said = f": {_shown(text)}" if text.strip() else ""
        return ReflowError(
            kind, _op(method, path), self.host, cause=f"the agent answered {answer.status}{said}"
        )

    def _unreadable(self, method: str, path: str, cause: str) -> ReflowError:
        return ReflowError(Kind.INVALID, _op(method, path), self.host, cause=f"the agent answered {cause}")


def _op(method: str, path: str) -> str:
    return f"{method} {path.partition('?')[0]}"


def _shown(text: bytes) -> str:
    shown = text[:_SHOWN].decode(errors="replace").strip()
    return shown + ("…" if len(text) > _SHOWN else "")
