"""What follows the evaluation of a run: the rest of the cache writes, and the run's files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.units import format_duration
from reflow.eval.dot import dot_text
from reflow.eval.evaluator import Evaluator
from reflow.runtime.drawing import draw, may_draw
from reflow.runtime.log import Log
from reflow.runtime.request import RunRequest
from reflow.runtime.runstate import RunFiles
from reflow.runtime.status import Group, Row

if TYPE_CHECKING:
    from reflow.flow.node import Flow

_SHOW_S = 0.2
_COMPUTED_AGAIN = "they are not in the cache, and will be computed again"


async def drain(evaluator: Evaluator, patience_s: float, group: Group, log: Log) -> None:
    """Finish cache writes, showing how many are left; say what is lost."""
    loop = asyncio.get_running_loop()
    rows: list[Row] = []
    timer: asyncio.TimerHandle

    def show() -> None:
        nonlocal timer
        if not rows:
            rows.append(group.row("cache", ""))
        group.update(rows[0], f"{evaluator.pending_writes} results to be written yet")
        timer = loop.call_later(_SHOW_S, show)

    timer = loop.call_later(_SHOW_S, show)
    try:
        async with asyncio.timeout(patience_s):
            lost = await evaluator.drain()
        if lost:
            log.error(f"{len(lost)} cache writes failed: {_COMPUTED_AGAIN}")
    except TimeoutError:
        count = f"{evaluator.pending_writes} results are lost: {_COMPUTED_AGAIN}"
        waited = format_duration(patience_s)
        log.error(f"some cache writes still pending after timeout {waited}; {count}")
    except ReflowError as err:
        log.error(f"cache writes: {err}")
    finally:
        timer.cancel()
        for row in rows:
            group.done(row, "written")


async def write_graph(
    run_id: Digest, main: Flow, evaluator: Evaluator, request: RunRequest, files: RunFiles, log: Log
) -> bytes:
    """Write the evaluation graph, unless it is not wanted, and its drawing; return the graph."""
    if not request.writes_graph:
        return b""
    text = dot_text(run_id, main, evaluator.continued())
    data = text.encode("utf-8", "surrogateescape")
    write_file(files.graph, data, log)
    is_wanted = request.draws_graph
    if may_draw(text.count(" -> "), is_wanted=is_wanted):
        trouble = await draw(files.graph, files.drawing, is_wanted=is_wanted)
        if trouble:
            log.info(f"{files.graph} is not drawn: {trouble}")
    return data


def write_file(path: str, data: bytes, log: Log) -> None:
    """Write one of the run's lesser files; that it cannot be written is only said."""
    try:
        with open(path, "wb") as stream:
            stream.write(data)
    except OSError as err:
        log.error(f"{path} cannot be written: {err.strerror}")
