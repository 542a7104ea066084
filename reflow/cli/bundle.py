"""``reflow bundle``: a program with everything it uses, in one file."""

from __future__ import annotations

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command

_DETAILS = """\
Bundle writes a program and all modules it uses into one file (.rfx), which runs anywhere: "reflow run",
"reflow doc" and the other commands take it like a module. What follows the program are parameters; in the
bundle they are the defaults."""


def run(app: App, arguments: Arguments) -> int:
    """Check the program and write the bundle."""
    from reflow.lang.bundle import write_bundle
    from reflow.lang.module_store import default_store
    from reflow.lang.session import Session

    def tell(line: str) -> None:
        app.write_error(line + "\n")

    path, *words = arguments.words
    session = Session(warn=None if arguments["nowarn"] else tell, note=tell, store=default_store())
    write_bundle(session, arguments["o"] or None, path, words)
    return 0


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
