"""The evaluation graph as a picture, where Graphviz is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress

SMALL_EDGES = 200
"""A graph with at most so many edges is drawn in any case: it takes a few hundredths of a second."""

_SMALL_LIMIT_S = 2.0
_LIMIT_S = 60.0


def may_draw(edges: int, *, is_wanted: bool) -> bool:
    """Whether a graph is to be drawn: small, or asked for; and there is a program that can."""
    return (is_wanted or edges <= SMALL_EDGES) and shutil.which("dot") is not None


async def draw(source: str, target: str, *, is_wanted: bool) -> str:
    """Draw a Graphviz file; return why that was not done, or nothing. Cancelling ends it."""
    scratch = f"{target}.{os.getpid()}"
    limit_s = _LIMIT_S if is_wanted else _SMALL_LIMIT_S
    try:
        trouble = await _run(("dot", "-Tsvg", "-o", scratch, source), limit_s)
        if not trouble:
            os.replace(scratch, target)
        return trouble
    except OSError as err:
        return str(err.strerror or err)
    finally:
        with suppress(OSError):
            os.unlink(scratch)


async def _run(words: tuple[str, ...], limit_s: float) -> str:
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *words, stdin=nowhere, stdout=nowhere, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(limit_s):
            _, said = await process.communicate()
    except TimeoutError:
        return f"it took more than {limit_s:.0f}s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return "" if process.returncode == 0 else said.decode("utf-8", "replace").strip() or "dot failed"
