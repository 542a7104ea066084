"""``$/path``: as Go's ``path``, but nothing is cleaned, so that URLs survive.

Source: syntax/stdlib.go, pathDecls.
"""

from __future__ import annotations

from reflow.lang import gopath
from reflow.lang.builtins.func import Mode, Native
from reflow.lang.value import CallSite, Value


def base(args: list[Value], site: CallSite) -> bytes:
    """The last element."""
    return gopath.base(args[0])


def directory(args: list[Value], site: CallSite) -> bytes:
    """All before the last slash."""
    parent = gopath.split_dir(args[0])
    return parent if parent == b"/" else parent.removesuffix(b"/")


def extension(args: list[Value], site: CallSite) -> bytes:
    """From the last dot of the last element on."""
    return gopath.extension(args[0])


def join(args: list[Value], site: CallSite) -> bytes:
    """The elements that are not empty, joined by slashes."""
    return b"/".join([element for element in args[0] if element])


FUNCTIONS = {
    "Base": Native(base),
    "Dir": Native(directory),
    "Ext": Native(extension),
    "Join": Native(join, Mode.FORCED),
}
