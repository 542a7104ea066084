"""``reflow rmcache``: forget cached results."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.core.digest import DigestPrefix
from reflow.core.errors import Kind, ReflowError, kind_of

if TYPE_CHECKING:
    from reflow.assoc import Assoc

_DETAILS = """\
Rmcache removes cache entries whose keys it reads from stdin, one a line. They are the keys that the log of a
run shows below each exec. (Each exec has several: to have it run again, remove all of them, or run with
-invalidate.) Objects stay until they are collected."""


_AT_ONCE = 32
_BATCH = 1000


def run(app: App, arguments: Arguments) -> int:
    """Remove what stdin names; tell what cannot be, and go on."""
    from reflow.runtime.wiring import has_assoc

    if not app.config.provider("assoc"):
        raise Fatal("no cache is configured: the key assoc is empty")
    prefixes = _prefixes(app, sys.stdin.buffer)
    if not has_assoc(app.config):
        for prefix in prefixes:
            app.log.error(f"failed to delete {prefix}: nothing is cached yet")
        return 0
    return app.run_async(_remove(app, prefixes))


def _prefixes(app: App, lines: Iterable[bytes]) -> Iterator[DigestPrefix]:
    """What lines name; those that name nothing are told."""
    for line in lines:
        text = line.decode("utf-8", "replace").strip()
        if not text:
            continue
        try:
            yield DigestPrefix.parse(text)
        except ValueError as err:
            app.log.error(f"failed to parse {text}: {err}; skipping")


async def _remove(app: App, prefixes: Iterator[DigestPrefix]) -> int:
    from reflow.runtime.wiring import open_assoc

    assoc = open_assoc(app.config)
    assert assoc is not None
    removed = 0
    try:
        while batch := await asyncio.to_thread(lambda: list(islice(prefixes, _BATCH))):
            removed += await _remove_each(app, assoc, batch)
    finally:
        await assoc.close()
    app.log.debug(f"removed {removed} keys")
    return 0


async def _remove_each(app: App, assoc: Assoc, prefixes: Collection[DigestPrefix]) -> int:
    """Remove several at once; how many keys were removed."""
    waiting = iter(prefixes)
    removed = 0

    async def some() -> None:
        nonlocal removed
        for prefix in waiting:
            try:
                count = await _forget(app, assoc, prefix)
                removed += count
            except ReflowError as err:
                app.log.error(f"failed to delete {prefix}: {err}")

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(some())
    return removed


async def _forget(app: App, assoc: Assoc, prefix: DigestPrefix) -> int:
    """Remove what a name stands for; how many keys that were. Raises ReflowError."""
    from reflow.cli.cachekey import cache_keys_of

    if prefix.full is not None:
        try:
            await assoc.delete(prefix.full)  # at once: a table's index of abbreviations may be behind it
            return 1
        except ReflowError as err:
            if kind_of(err) is not Kind.NOT_EXIST:
                raise
    keys = await cache_keys_of(app, assoc, prefix)
    if not keys:
        raise ReflowError(Kind.NOT_EXIST, cause="no key begins so")
    for key in keys:
        await assoc.delete(key.stored)
    return len(keys)


COMMAND = Command("rmcache", "rmcache", _DETAILS, run)
