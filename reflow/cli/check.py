"""``reflow check``: look for errors in modules without running anything."""

from __future__ import annotations

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.cli.failure import explain

_DETAILS = """\
Check reads modules (.rf files and bundles) with everything they use, and checks their types.

Errors and warnings are printed; the status is 1 if there was an error, or with -w a warning. All modules
are checked, whatever is found in the first ones."""


def run(app: App, arguments: Arguments) -> int:
    """Check each module; errors of one do not keep the others from being checked."""
    from reflow.lang.module_store import default_store
    from reflow.lang.session import Session

    def tell(line: str) -> None:
        app.write_error(line + "\n")

    session = Session(warn=tell, note=tell, store=default_store())
    status = 0
    for path in arguments.words:
        try:
            session.open(path)
        except Exception as err:  # noqa: BLE001  (every module is checked, whatever the others hold)
            text, status = explain(err)
            tell(text)
    return status or (1 if session.warnings and arguments["w"] else 0)


COMMAND = Command(
    "check",
    "check modules...",
    _DETAILS,
    run,
    flags=[("w", "bool", "false", "warnings are errors")],
    min_words=1,
    max_words=None,
)
