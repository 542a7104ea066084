"""``reflow images``: the images that a program's execs name."""

from __future__ import annotations

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.cli.failure import EXIT_USAGE, explain

_DETAILS = """\
Images prints the images of a program's execs, sorted, one a line. What follows the program are its
parameters, as for "reflow run"."""


def run(app: App, arguments: Arguments) -> int:
    """Instantiate the program and print its images; wrong parameters are wrong usage here."""
    from reflow.lang.module_store import default_store
    from reflow.lang.program import UsageError, instantiate
    from reflow.lang.session import Session

    session = Session(store=default_store())
    try:
        instantiate(arguments.words[0], arguments.words[1:], session)
    except UsageError as err:
        raise Fatal(explain(err)[0], EXIT_USAGE) from err
    for image in session.images():
        app.print(image)
    return 0


COMMAND = Command(
    "images",
    "images path [module flags]",
    _DETAILS,
    run,
    min_words=1,
    max_words=None,
)
