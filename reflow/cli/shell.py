"""``reflow shell``: bash in the surroundings of an exec."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.cli.names import EXAMPLES, BadNameError, NameKind, parse_name

if TYPE_CHECKING:
    from reflow.core.digest import DigestPrefix
    from reflow.runtime.livework import LocalExecDir

_DETAILS = """\
Shell opens bash where an exec runs: in its container, in its sandbox, or, when it runs without either, in its
directory on this machine, with HOME, TMPDIR and tmp as its command has them. The exec is named as
"reflow list -a" shows it (ALLOC/ID), or by its id.

Of an exec that failed only its directory is left, without its inputs: shell opens bash there.

Stdin, stdout and stderr are those of the shell; end it with exit or Ctrl-D. The exec does not notice."""


def run(app: App, arguments: Arguments) -> int:
    """Open the shell; its exit status is ours."""
    (word,) = arguments.words
    try:
        name = parse_name(word)
    except BadNameError as err:
        app.write(f"invalid argument '{word}', must be one of the following examples:\n{EXAMPLES}\n")
        raise Fatal(str(err)) from err
    if name.kind not in (NameKind.EXEC, NameKind.ID):
        raise Fatal(f"{word}: not an exec URI")
    assert name.id is not None
    prefix, directories = name.id, []

    async def look() -> int:
        from reflow.cli.working import work_here

        directories.extend((await work_here(app))[1])
        return 0

    app.run_async(look())
    where = _find(word, prefix, directories)
    app.end_display()
    app.flush()
    if where.is_running and where.tenant.executor == "docker":
        return _in_container(word, where.tenant.id)
    if where.is_running and where.tenant.executor == "sandbox":
        return _in_sandbox(where)
    return _in_directory(app, where)


def _find(word: str, prefix: DigestPrefix, directories: list[str]) -> LocalExecDir:
    from reflow.runtime.livework import find_exec

    found = find_exec(directories, prefix)
    if not found:
        raise Fatal(f"{word}: not an exec URI of something that runs here, or that failed here lately")
    if len({each.tenant.id for each in found}) > 1:
        raise Fatal(f"{word}: more than one exec begins so")
    return found[0]


def _in_container(word: str, id: str) -> int:
    from reflow.executor.dockershell import DockerShell

    shell = DockerShell()
    try:
        container = shell.find(id)
        if container is None:
            raise Fatal(f"{word}: its container has not started yet, or has just ended")
        return shell.shell(container)
    finally:
        shell.close()


def _in_sandbox(where: LocalExecDir) -> int:
    from reflow.executor.sandboxshell import run_shell

    return run_shell(where.path, where.tenant)


def _in_directory(app: App, where: LocalExecDir) -> int:
    """Bash on this machine, where the exec's files are."""
    if not where.is_running:
        app.write_error(f"it has ended; these are the files that it left: {where.path}\n")
    tmp = f"{where.path}/tmp"
    directory = tmp if where.is_running and os.path.isdir(tmp) else where.path
    environment = {**os.environ, "HOME": directory, "TMPDIR": directory, "tmp": directory}
    try:
        return subprocess.call(["bash"], cwd=directory, env=environment)
    except FileNotFoundError as err:
        raise Fatal("bash was not found on PATH") from err


COMMAND = Command("shell", "shell exec", _DETAILS, run, min_words=1, max_words=1)
