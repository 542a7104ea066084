"""``$/filesets``: for legacy modules.

Source: syntax/stdlib.go, filesetsDecls.
"""

from __future__ import annotations

from reflow.core.fileset import Fileset
from reflow.lang.builtins.func import Native
from reflow.lang.value import CallSite, Value


def directory(args: list[Value], site: CallSite) -> Fileset:
    """A directory as a fileset."""
    made: Fileset = args[0].fileset()
    return made


def file(args: list[Value], site: CallSite) -> Fileset:
    """A file as a fileset."""
    return Fileset.of_file(args[0])


FUNCTIONS = {"Dir": Native(directory), "File": Native(file)}
