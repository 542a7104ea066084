"""Print the logical digest of what a program's Main computes: ``flow_digest.py PROGRAM [FLAGS]``."""

from __future__ import annotations

import sys

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.flow.digest import digest
from reflow.lang.diagnostic import EvalError, SourceError
from reflow.lang.force import to_flow
from reflow.lang.program import Program, UsageError, load
from reflow.lang.session import Session


def main_digest(program: Program) -> Digest:
    """Digest of a program's Main, also of an immediate one."""
    return digest(to_flow(program.main, program.main_type))


def _print(line: str) -> None:
    print(line, file=sys.stderr)


def main(argv: list[str]) -> int:
    sys.setrecursionlimit(10_000)
    if not argv:
        _print("usage: flow_digest.py PROGRAM [FLAGS]")
        return 2
    session = Session(note=_print, trace=_print)
    try:
        print(main_digest(load(argv[0], argv[1:], session, make_absolute=False)))
    except (SourceError, EvalError, ReflowError, UsageError) as err:
        _print(str(err))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
