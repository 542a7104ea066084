"""``reflow version``. (Without a configuration file it is answered in `reflow.cli.main` already.)"""

from __future__ import annotations

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.version import version_text


def run(app: App, arguments: Arguments) -> int:
    """Print the version."""
    app.print(version_text())
    return 0


COMMAND = Command(
    "version", "version", "Version prints the version of this program, and that of Python.", run
)
