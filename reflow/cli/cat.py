"""``reflow cat``: objects of the repository on stdout."""

from __future__ import annotations

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.repository import Repository

_DETAILS = """\
Cat copies files of Reflow's repository to stdout, one after the other. They are named by their ids,
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
    from reflow.runtime.wiring import open_repository

    repository = open_repository(app.config)
    try:
        found = [await _find(app, repository, prefix, is_taskdb=is_taskdb) for prefix in prefixes]
        for item in found:
            if isinstance(item, Digest):
                async for chunk in repository.get(item):
                    app.write_bytes(chunk)
            else:
                app.write_bytes(item)
    finally:
        await repository.close()
    return 0


async def _find(app: App, repository: Repository, prefix: DigestPrefix, *, is_taskdb: bool) -> Digest | bytes:
    """The object that an id stands for; or the contents, for what only the record of runs has."""
    from reflow.cli.lookup import expand

    try:
        digest = (await repository.stat(await expand(repository, prefix))).id
    except ReflowError as err:
        inspection = await _inspection(app, prefix) if kind_of(err) is Kind.NOT_EXIST else None
        if inspection is None:
            raise Fatal(f"stat {prefix}: {err}{_hint(err, is_taskdb)}") from err
        return inspection
    assert digest is not None
    return digest


async def _inspection(app: App, prefix: DigestPrefix) -> bytes | None:
    """What is known of a finished exec, by the id that ``ps -l`` shows."""
    from reflow.cli.tables import inspect_bytes, inspect_id
    from reflow.runtime.wiring import has_taskdb, open_taskdb
    from reflow.taskdb import TaskQuery

    taskdb = open_taskdb(app.config) if has_taskdb(app.config) else None
    if taskdb is None:
        return None
    try:
        tasks = await taskdb.tasks(TaskQuery())
    finally:
        await taskdb.close()
    for task in tasks:
        id = inspect_id(task)
        if id is not None and prefix.expands_to(id):
            return inspect_bytes(task)
    return None


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
