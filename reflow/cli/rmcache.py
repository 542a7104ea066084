"""``reflow rmcache``: forget cached results."""

from __future__ import annotations

import sys

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.core.digest import DigestPrefix
from reflow.core.errors import ReflowError

_DETAILS = """\
Rmcache removes cache entries whose keys it reads from stdin, one a line. They are the keys that the log of a
run shows below each exec. (Each exec has several: to have it run again, remove all of them, or run with
-invalidate.) Objects stay until they are collected."""


def run(app: App, arguments: Arguments) -> int:
    """Remove what stdin names; tell what cannot be, and go on."""
    from reflow.runtime.wiring import has_assoc

    if not app.config.provider("assoc"):
        raise Fatal("no cache is configured: the key assoc is empty")
    prefixes = []
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "replace").strip()
        if not text:
            continue
        try:
            prefixes.append(DigestPrefix.parse(text))
        except ValueError as err:
            app.log.error(f"failed to parse {text}: {err}; skipping")
    if not has_assoc(app.config):
        for prefix in prefixes:
            app.log.error(f"failed to delete {prefix}: nothing is cached yet")
        return 0
    return app.run_async(_remove(app, prefixes))


async def _remove(app: App, prefixes: list[DigestPrefix]) -> int:
    from reflow.cli.cachekey import cache_keys_of
    from reflow.runtime.wiring import open_assoc

    assoc = open_assoc(app.config)
    assert assoc is not None
    removed = 0
    try:
        for prefix in prefixes:
            try:
                keys = await cache_keys_of(app, assoc, prefix)
                if not keys:
                    app.log.error(f"failed to delete {prefix}: no key begins so")
                for key in keys:
                    await assoc.delete(key.stored)
                    removed += 1
            except ReflowError as err:
                app.log.error(f"failed to delete {prefix}: {err}")
    finally:
        await assoc.close()
    app.log.debug(f"removed {removed} keys")
    return 0


COMMAND = Command("rmcache", "rmcache", _DETAILS, run)
