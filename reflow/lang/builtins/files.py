"""``$/files``.

Source: syntax/stdlib.go, filesDecls.
"""

from __future__ import annotations

from reflow.core.fileset import Fileset
from reflow.flow.node import Data, Extern, Flow, Val
from reflow.lang.builtins.func import Native, PlacedError
from reflow.lang.coerce import file_of, fileset_to_file
from reflow.lang.diagnostic import EvalError
from reflow.lang.gourl import parse_place
from reflow.lang.value import CallSite, Value

_CREATE_LIMIT_MB = 10


def copy(args: list[Value], site: CallSite) -> Flow:
    """Put a file at a URL."""
    file, raw = args
    return extern(Fileset.of_file(file), raw.rstrip(b"/"), "files.Copy", site)


def create(args: list[Value], site: CallSite) -> Flow:
    """A file with these contents."""
    (data,) = args
    size_mb = len(data) >> 20
    if len(data) > _CREATE_LIMIT_MB << 20:
        raise PlacedError(
            f"{site.pos} {site.ident}: data is too large ({size_mb}MB); "
            f"files.Create data may not exceed {_CREATE_LIMIT_MB}MB",
            site,
        )
    return file_of(Data(data, ident=site.ident, pos=site.pos))


def fileset(args: list[Value], site: CallSite) -> Value:
    """A fileset as a file."""
    (value,) = args
    return file_of(value) if isinstance(value, Flow) else fileset_to_file(value)


def extern(files: Fileset, raw: bytes, function: str, site: CallSite) -> Flow:
    """The node that puts files at a URL, which needs a scheme."""
    url = parse_place(raw)
    if not url.scheme:
        shown = raw.decode("utf-8", "surrogateescape")
        raise EvalError(f"{function}: scheme not provided in destination url {shown}")
    return Extern(url.text, Val(files), ident=site.ident, pos=site.pos)


FUNCTIONS = {
    "Copy": Native(copy, is_flow=True),
    "Create": Native(create, is_flow=True),
    "Fileset": Native(fileset, is_flow=True),
}
