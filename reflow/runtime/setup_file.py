"""The configuration file, changed in place: comments, and what is not ours to change, stay as they are.

`edit` works on text. `change_file` is the only writer of the file: one at a time, atomically, for its owner
only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from reflow.runtime import config
from reflow.runtime.config import ConfigError, parse_document

_STRING = "tag:yaml.org,2002:str"
_MODE = 0o600


def dump_yaml(document: Mapping[str, Any]) -> str:
    """YAML in block style; texts that read as something else are in double quotes."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes as the original does."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        is_plain = dumper.resolve(yaml.ScalarNode, text, (True, False)) == _STRING  # type: ignore[no-untyped-call]
        return dumper.represent_scalar(_STRING, text, style=None if is_plain else '"')

    Dumper.add_representer(str, represent)
    text: str = yaml.dump(
        dict(document),
        Dumper=Dumper,
        default_flow_style=False,
        sort_keys=True,
        allow_unicode=True,
        width=4096,
    )
    return text


def edit(text: str, changes: Mapping[str, Any]) -> str:
    """The text with these keys set, or taken out where the value is None.

    What cannot be edited line by line (flow style, anchors, several documents) is written anew, without its
    comments. Raises ConfigError for text that is no mapping.
    """
    document = parse_document("", text)
    wanted = {key: value for key, value in document.items() if key not in changes}
    wanted |= {key: value for key, value in changes.items() if value is not None}
    if wanted == document:
        return text
    spliced = _spliced(text, {key: value for key, value in changes.items() if document.get(key) != value})
    if spliced is not None and _means(spliced, wanted):
        return spliced
    return dump_yaml(wanted)


def _means(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return parse_document("", text) == wanted
    except ConfigError:
        return False


class _Span(NamedTuple):
    """Lines of a key with its value; ``head`` and ``tail`` surround a value that is on one line."""

    first: int
    end: int
    head: str = ""
    tail: str = ""


def _spliced(text: str, changes: Mapping[str, Any]) -> str | None:
    lines = text.splitlines(keepends=True)
    spans = _spans(text, lines)
    if spans is None:
        return None
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    added = [_block(key, changes[key], None) for key in sorted(changes) if key not in spans]
    for key, span in sorted(spans.items(), key=lambda item: -item[1].first):
        if key in changes:
            lines[span.first : span.end] = [_block(key, changes[key], span)]
    return "".join([*lines, *added])


def _block(key: str, value: Any, span: _Span | None) -> str:
    """The lines of a key; a comment behind a value that stays on one line is kept."""
    if value is None:
        return ""
    if span is not None and span.head and isinstance(value, str):
        return span.head + dump_yaml({"": value}).partition(":")[2].strip() + span.tail
    return dump_yaml({key: value})


def _spans(text: str, lines: list[str]) -> dict[str, _Span] | None:
    """Where each key is; None for text that is not a plain list of keys at the margin."""
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        return {} if not any(line.startswith(("---", "...")) for line in lines) else None
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return None
    pairs = root.value
    if any(key.start_mark.column or not isinstance(key, yaml.ScalarNode) for key, _ in pairs):
        return None
    ends = [key.start_mark.line for key, _ in pairs[1:]] + [len(lines)]
    found = {key.value: _span(key, value, lines, end) for (key, value), end in zip(pairs, ends, strict=True)}
    return found if len(found) == len(pairs) else None


def _span(key: Any, value: Any, lines: list[str], end: int) -> _Span:
    first = key.start_mark.line
    while end > first + 1 and not lines[end - 1].partition("#")[0].strip():
        end -= 1
    start, stop = value.start_mark, value.end_mark
    if end == first + 1 and start.line == stop.line == first and value.id == "scalar" and value.value:
        line = lines[first] if lines[first].endswith("\n") else lines[first] + "\n"
        return _Span(first, end, line[: start.column], line[stop.column :])
    return _Span(first, end)


# ------------------------------------------------------------------------------------------- the file


def make_directory(path: str) -> None:
    """Make the directory of the file, and see that it can be written to. Raises ConfigError, OSError."""
    if not path:
        raise ConfigError('there is no configuration file to write: -config is ""')
    _check_replaceable(path)
    directory = os.path.dirname(os.path.realpath(path))
    os.makedirs(directory, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        pass


def _check_replaceable(path: str) -> None:
    """Refuse to put a file in the place of a device or a pipe, ``/dev/null`` say. Raises ConfigError."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError(f"config {path}: cannot be changed: it is not a file; name one with -config")


def change_file(path: str, decide: Callable[[dict[str, Any]], Mapping[str, Any]]) -> bool:
    """Change keys of the file as ``decide`` says, given what is in it; whether anything changed.

    Raises ConfigError for a file that cannot be read, OSError for one that cannot be written.
    """
    real = os.path.realpath(path)
    with _locked(os.path.dirname(real)):
        text = read_text(path)
        changed = edit(text, decide(parse_document(path, text)))
        if changed == text:
            return False
        _check_replaceable(path)
        _replace(real, changed)
        return True


def read_text(path: str) -> str:
    """What is in the file; nothing when there is none. Raises ConfigError, OSError."""
    try:
        return config.read_text(path)
    except FileNotFoundError:
        return ""


def make_private(path: str) -> None:
    """Let nobody but its owner read the file, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_mode & 0o777 != _MODE:
            os.chmod(path, _MODE)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Hold the lock of a directory: it leaves no file behind."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some network file systems lock no directories
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: str, text: str) -> None:
    descriptor, scratch = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as stream:
            os.fchmod(descriptor, _MODE)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise
