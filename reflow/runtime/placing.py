"""Placing a program's result where ``-out`` says."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.units import format_size
from reflow.repository.localstate import local_state
from reflow.repository.place import Placer
from reflow.runtime.home import home
from reflow.runtime.log import Log
from reflow.runtime.result import result_entries
from reflow.runtime.status import Group
from reflow.runtime.stores import LOCAL_STATE, Stores

if TYPE_CHECKING:
    from reflow.lang.program import Program
    from reflow.lang.types import Type


class ResultPlacer:
    """Places the result of a run at ``target``; an empty target places nothing."""

    def __init__(self, stores: Stores, target: str) -> None:
        self._target = target
        self._stores = stores
        self._placer = Placer(stores.state, lambda digest: stores.inputs.locate(digest)[0])

    def check(self) -> None:
        """Raise ReflowError when nothing may be placed there; to be called before anything runs."""
        if self._target:
            self._placer.check_target(self._target)

    async def place(self, value: Any, type: Type, group: Group, log: Log) -> None:
        """Place a value, showing how far it is. Raises ReflowError; cancelling leaves the target alone."""
        if not self._target:
            return
        entries = result_entries(value, type)
        row = group.row("out", "placing the result")
        is_stopped = threading.Event()

        def progress(done: int, total: int) -> None:
            if is_stopped.is_set():
                raise ReflowError(Kind.CANCELED, "out", self._target)
            share = done / total if total else None
            group.update(row, f"placing {format_size(done)} of {format_size(total)}", share)

        try:
            await self._stores.bring([entry for entry in entries.values() if isinstance(entry, Digest)])
            kept = await asyncio.to_thread(self._placer.place_tree, entries, self._target, progress)
        finally:
            is_stopped.set()
        group.done(row, "placed")
        if kept is not None:
            log.info(f"{self._target} was changed since it was placed; what was there is now {kept}")


def place_immediate(program: Program, target: str) -> None:
    """Place a Main that needed no run. Raises ReflowError."""
    state = local_state(os.path.join(home(), LOCAL_STATE))
    try:
        Placer(state, _nowhere).place_tree(result_entries(program.main, program.main_type), target)
    finally:
        state.close()


def _nowhere(digest: Digest) -> str:
    raise ReflowError(Kind.NOT_EXIST, "out", digest, cause="an immediate value has no files")
