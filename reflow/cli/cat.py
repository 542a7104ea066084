"""``reflow cat``: objects of the repository on stdout."""

from __future__ import annotations

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError, kind_of

_DETAILS = """Cat copies files of Reflow's repository to stdout, one after the other. They are named by their ids,
which may be abbreviated to an even number of digits. Nothing is printed unless all of them are there."""


def run(app: App, arguments: Arguments) -> int:
    """Look for all objects first, then copy them."""
    prefixes = []
    for word in arguments.words:
        try:
            prefixes.append(DigestPrefix.parse(word))
        except ValueError as err:
            raise Fatal(f"parse {word}: {err}") from err
    return app.run_async(_copy(app, prefixes, is_taskdb=arguments["taskdbrepo"]))


async def _copy(app: App, prefixes: list[DigestPrefix], *, is_taskdb: bool) -> int:
    from reflow.cli.lookup import expand
    from reflow.runtime.wiring import open_repository

    repository = open_repository(app.config)
    try:
        digests = []
        for prefix in prefixes:
            try:
                digests.append((await repository.stat(await expand(repository, prefix))).id)
            except ReflowError as err:
                raise Fatal(f"stat {prefix}: {err}{_hint(err, is_taskdb)}") from err
        for digest in digests:
            assert isinstance(digest, Digest)
            async for chunk in repository.get(digest):
                app.write_bytes(chunk)
    finally:
        await repository.close()
    return 0


def _hint(error: ReflowError, is_taskdb: bool) -> str:
    if kind_of(error) is not Kind.NOT_EXIST or is_taskdb:
        return ""
    return "\nif the id comes from the record of a run or task, try -taskdbrepo"


COMMAND = Command(
    "cat",
    "cat [-taskdbrepo] files...",
    _DETAILS,
    run,
    flags=[("taskdbrepo", "bool", "false", "read from the repository of the record of runs (here the same)")],
    min_words=1,
    max_words=None,
)
