"""``reflow doc``: parameters and declarations of a module."""

from __future__ import annotations

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command

_DETAILS = """\
Doc shows what a module (.rf), a bundle (.rfx) or a system module ($/strings) offers: its parameters with
their defaults, and its types and values, each with its comment. Without a module it lists the system
modules."""


def run(app: App, arguments: Arguments) -> int:
    """Print the documentation of a module, or the list of system modules."""
    from reflow.lang.doc import doc_text, system_modules_text
    from reflow.lang.module_store import default_store
    from reflow.lang.session import Session

    if not arguments.words:
        app.write(system_modules_text())
        return 0
    app.write(doc_text(Session(store=default_store()).open(arguments.words[0])))
    return 0


COMMAND = Command("doc", "doc path", _DETAILS, run, max_words=1)
