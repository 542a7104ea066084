"""``reflow bundle``: a program with everything it uses, in one file."""

from __future__ import annotations

import os
from contextlib import suppress

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal

_DETAILS = """\
Bundle writes a program and all modules it uses into one file (.rfx), which runs anywhere: "reflow run",
"reflow doc" and the other commands take it like a module. What follows the program are parameters; in the
bundle they are the defaults."""


def run(app: App, arguments: Arguments) -> int:
    """Check the program and write the bundle."""
    path, *words = arguments.words
    extension = os.path.splitext(path)[1]
    if extension != ".rf":
        raise Fatal(f"extension {extension or '(none)'} not supported for bundling: want a module (.rf)")
    _write(app, path, words, arguments["o"] or os.path.basename(path) + "x", warns=not arguments["nowarn"])
    return 0


def _write(app: App, path: str, words: list[str], out: str, *, warns: bool) -> None:
    from reflow.lang.bundle import archive, make_bundle
    from reflow.lang.session import Session
    from reflow.lang.source_module import SourceModule

    session = Session(warn=(lambda line: app.write_error(line + "\n")) if warns else None)
    module = session.open(path)
    assert isinstance(module, SourceModule), f"{path} was opened as {module}"
    module.inject(session, words)
    data = archive(make_bundle(session.sources, module.path, words))
    scratch = f"{out}.{os.getpid()}.part"
    try:
        with open(scratch, "wb") as stream:
            stream.write(data)
        os.replace(scratch, out)
    except OSError:
        with suppress(OSError):
            os.unlink(scratch)
        raise


COMMAND = Command(
    "bundle",
    "bundle [-o output] path [args]",
    _DETAILS,
    run,
    flags=[
        ("nowarn", "bool", "false", "do not print warnings"),
        ("o", "string", "", "file to write; by default the name of the program and an x, here"),
    ],
    min_words=1,
    max_words=None,
)
