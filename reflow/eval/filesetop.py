"""Pure operations of legacy programs on filesets: grouping and renaming by regular expression.

Patterns are RE2, replacements Go templates (``$1``, ``${name}``, ``$$``); both are matched against the
bytes of paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset, path_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator


def group_by(pattern: str, fileset: Fileset) -> Fileset:
    """A list of mappings, one per value of the pattern's only group, in byte order of that value.

    Paths that do not match are dropped, and all are when the pattern has not exactly one group.
    """
    matcher = _compile("groupby", pattern)
    groups: dict[bytes, dict[str, File]] = {}
    for path, file in fileset.files.items():
        match = matcher.search(path_bytes(path))
        if match is not None and matcher.groups == 1:
            groups.setdefault(match.group(1) or b"", {})[path] = file
    return Fileset(members=[Fileset(groups[key]) for key in sorted(groups)])


def collect(pattern: str, replacement: str, fileset: Fileset) -> Fileset:
    """The files whose paths match, each match in the path replaced. The last path wins a collision."""
    matcher = _compile("collect", pattern)
    template = path_bytes(replacement)
    files: dict[str, File] = {}
    for path in fileset.sorted_paths():
        raw = path_bytes(path)
        if matcher.search(raw) is not None:
            renamed = _replace_all(matcher, template, raw)
            files[renamed.decode("utf-8", "surrogateescape")] = fileset.files[path]
    return Fileset(files)


def _compile(op: str, pattern: str) -> Any:
    # Imported on use: only legacy programs need it.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(path_bytes(pattern), options)
    except re2.error as err:
        reason = err.args[0].decode() if isinstance(err.args[0], bytes) else err
        raise ReflowError(Kind.INVALID, op, repr(pattern), cause=f"no regular expression: {reason}") from err


def _replace_all(matcher: Any, template: bytes, text: bytes) -> bytes:
    """Replace every match; an empty match right behind another one does not count, as in Go."""
    out: list[bytes] = []
    end = 0
    for match in matcher.finditer(text):
        start, stop = match.span()
        if start == stop == end and out:
            continue
        out += [text[end:start], expand(template, match)]
        end = stop
    out.append(text[end:])
    return b"".join(out)


def expand(template: bytes, match: Any) -> bytes:
    """Fill in a Go template: ``$name`` takes the longest run of letters, digits and ``_``.

    Unknown and unmatched groups are empty; ``$$`` is a dollar sign; a ``$`` that starts nothing stays.
    """
    return b"".join(_expansion(template, match))


def _expansion(template: bytes, match: Any) -> Iterator[bytes]:
    names = match.re.groupindex
    pos = 0
    while (dollar := template.find(b"$", pos)) >= 0:
        yield template[pos:dollar]
        if template[dollar + 1 : dollar + 2] == b"$":
            yield b"$"
            pos = dollar + 2
            continue
        name, pos = _name(template, dollar)
        if name is None:
            yield b"$"
        else:
            yield _group(match, names, name)
    yield template[pos:]


def _name(template: bytes, dollar: int) -> tuple[bytes | None, int]:
    """The group's name behind a dollar sign, or None, and where to go on."""
    start = dollar + 1
    braced = template[start : start + 1] == b"{"
    start += braced
    stop = start
    while stop < len(template) and (template[stop : stop + 1].isalnum() or template[stop] == ord("_")):
        stop += 1
    if stop == start or (braced and template[stop : stop + 1] != b"}"):
        return None, dollar + 1
    return template[start:stop], stop + braced


def _group(match: Any, names: Any, name: bytes) -> bytes:
    if name.isdigit():
        number = int(name)
        return (match.group(number) or b"") if number <= match.re.groups else b""
    for key in (name, name.decode("ascii", "replace")):
        if key in names:
            return match.group(names[key]) or b""
    return b""
