"""Placing a program's result where ``-out`` says."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File
from reflow.core.units import format_size
from reflow.repository.localstate import local_state
from reflow.repository.place import Placer
from reflow.runtime.home import home
from reflow.runtime.log import Log
from reflow.runtime.result import ResultTree, result_tree
from reflow.runtime.status import Group
from reflow.runtime.stores import LOCAL_STATE, Stores

if TYPE_CHECKING:
    from reflow.lang.program import Program
    from reflow.lang.types import Type


class ResultPlacer:
    """Places the result of a run at ``target``; an empty target places nothing.

    With ``checks_contents`` each object is hashed before it is placed; else its size and time are trusted.
    """

    def __init__(self, stores: Stores, target: str, *, checks_contents: bool = False) -> None:
        self._target = target
        self._stores = stores
        self._checks_contents = checks_contents
        self._placer = Placer(stores.state, lambda digest: stores.inputs.locate(digest)[0])

    def check(self) -> None:
        """Raise ReflowError when nothing may be placed there; to be called before anything runs."""
        if self._target:
            self._placer.check_target(self._target)

    async def place(self, value: Any, type: Type, group: Group, log: Log) -> None:
        """Place a value, showing how far it is. Raises ReflowError; cancelling leaves the target alone.

        The error of an object that is gone or damaged is one of those that evaluating again is of use for.
        """
        if not self._target:
            return
        tree = result_tree(value, type)
        row = group.row("out", "placing the result")
        await self._stores.fetch([File(digest, size) for digest, size in tree.sizes.items()])
        await self._check(tree)
        is_stopped = threading.Event()

        def progress(done: int, total: int) -> None:
            if is_stopped.is_set():
                raise ReflowError(Kind.CANCELED, "out", self._target)
            share = done / total if total else None
            group.update(row, f"placing {format_size(done)} of {format_size(total)}", share)

        try:
            kept = await asyncio.to_thread(self._placer.place_tree, tree.entries, self._target, progress)
        finally:
            is_stopped.set()
        group.done(row, "placed")
        if kept is not None:
            log.info(f"{self._target} was changed since it was placed; what was there is now {kept}")

    async def _check(self, tree: ResultTree) -> None:
        """Raise for the first object that is not what it should be; a damaged one is set aside."""
        inputs = self._stores.inputs
        missing = await inputs.repository.missing(tree.sizes)
        for digest in missing:
            if not inputs.locate(digest)[1]:
                aside = inputs.repository.directory.set_aside(digest)
                cause = f"its size is not what it was; set aside as {aside}"
                raise ReflowError(Kind.NOT_EXIST, "inputs.locate", digest, cause=cause)
        if self._checks_contents:
            for digest in tree.sizes:
                await asyncio.to_thread(inputs.check_contents, digest)


def place_immediate(program: Program, target: str) -> None:
    """Place a Main that needed no run. Raises ReflowError."""
    state = local_state(os.path.join(home(), LOCAL_STATE))
    try:
        Placer(state, _nowhere).place_tree(result_tree(program.main, program.main_type).entries, target)
    finally:
        state.close()


def _nowhere(digest: Digest) -> str:
    raise ReflowError(Kind.NOT_EXIST, "out", digest, cause="an immediate value has no files")
