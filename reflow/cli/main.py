"""The entry point of the ``reflow`` command.

``reflow version`` must not cost more than twice Python's own start, so it is answered here with nothing
imported; everything else is in `reflow.cli.app`.
"""

from __future__ import annotations

import os
import sys

from reflow.runtime.home import default_config_path

_RECURSION_LIMIT = 10_000
"""For passes over the trees of programs, whose depth the parser bounds."""


def main() -> int:
    """Run the command line of this process; return its exit status, if there is anything to return to."""
    _fill_closed_streams()
    words = sys.argv[1:]
    if words == ["version"] and not os.path.exists(default_config_path()):
        from reflow.version import version_text

        return _print(version_text())
    from reflow.cli.app import run

    sys.setrecursionlimit(_RECURSION_LIMIT)
    status = run(words)
    # Taking a large program's objects apart one by one takes longer than many a command.
    os._exit(status)


def _fill_closed_streams() -> None:
    """Give stdin, stdout and stderr that were closed to the null device, lest files take their numbers.

    What is written to a stdout that was closed is an error.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (lasts as long as the process)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _print(text: str) -> int:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as err:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141 if isinstance(err, BrokenPipeError) else 1
    return 0
