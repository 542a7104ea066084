"""``reflow images``: the images that a program's execs name."""

from __future__ import annotations

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command

_DETAILS = """Images prints the images of a program's execs, sorted, one a line. What follows the program are its
parameters, as for "reflow run"."""


def run(app: App, arguments: Arguments) -> int:
    """Instantiate the program and print its images."""
    from reflow.lang.program import instantiate
    from reflow.lang.session import Session

    session = Session()
    instantiate(arguments.words[0], arguments.words[1:], session)
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
