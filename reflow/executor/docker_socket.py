"""The Docker daemon's socket, spoken to without the SDK.

For what the SDK cannot do without a thread for each container, or costs too much to import for: is there a
daemon, and has a container ended.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

_HEAD_LIMIT_BYTES = 1 << 16


class Answer(NamedTuple):
    """Status and body of an HTTP answer."""

    status: int
    body: bytes

    @property
    def message(self) -> str:
        """What an error answer says."""
        try:
            return str(json.loads(self.body)["message"])
        except (ValueError, KeyError, TypeError):
            return self.body.decode("utf-8", "replace").strip() or f"status {self.status}"


async def request(path: str, method: str, target: str) -> Answer:
    """Send a request without a body and await the whole answer. Raises OSError."""
    reader, writer = await asyncio.open_unix_connection(path, limit=_HEAD_LIMIT_BYTES)
    try:
        head = f"{method} {target} HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        words = (await reader.readline()).split()
        is_chunked = False
        while line := (await reader.readline()).strip().lower():
            is_chunked = is_chunked or (line.startswith(b"transfer-encoding:") and line.endswith(b"chunked"))
        body = await reader.read()
    finally:
        writer.close()
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionError("the docker daemon closed the connection")
    return Answer(int(words[1]), _joined(body) if is_chunked else body)


def _joined(chunked: bytes) -> bytes:
    """The chunks of a body, joined; a body that was cut off loses its end."""
    parts = []
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        length = int(size.partition(b";")[0] or b"0", 16)
        parts.append(rest[:length])
        chunked = rest[length + 2 :] if length else b""
    return b"".join(parts)


async def ping(path: str, timeout_s: float) -> str:
    """Ask whether a daemon answers; the empty text, or why not."""
    try:
        async with asyncio.timeout(timeout_s):
            answer = await request(path, "GET", "/_ping")
    except TimeoutError:
        return f"no answer within {timeout_s:g} s at {path}"
    except FileNotFoundError:
        return f"no daemon at {path}"
    except PermissionError:
        return f"not allowed to use {path} (is this user in the group docker?)"
    except OSError as err:
        return f"no daemon at {path} ({(err.strerror or str(err)).lower()})"
    return "" if answer.status == 200 else f"daemon at {path} answers {answer.message}"


async def wait(path: str, container: str) -> int:
    """Return the exit code of a container, once it has ended. Raises OSError."""
    answer = await request(path, "POST", f"/containers/{container}/wait")
    if answer.status != 200:
        raise ConnectionError(answer.message)
    try:
        row: dict[str, Any] = json.loads(answer.body)
    except ValueError as err:
        raise ConnectionError("the docker daemon went away") from err
    return int(row["StatusCode"])
