"""What a node's keys are made of, and what differs between two nodes: image, command, inputs, files.

An input is named by the digest that its fileset has as a constant of the graph (`content_id`): equal
contents have equal names, wherever they come from, so that the output of one exec is found again among the
inputs of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset, path_bytes
from reflow.eval.tasklines import command_text, dedent
from reflow.flow.digest import digest, universe
from reflow.flow.node import Exec, External, Val

__all__ = ["Change", "FileChange", "FileRow", "KeyParts", "compare", "content_id", "distance", "parts_of"]


class FileRow(NamedTuple):
    """A file of a fileset: its path there, its digest in hexadecimal (or its URL and state), its size."""

    path: str
    name: str
    size: int

    @property
    def is_reference(self) -> bool:
        """Whether it is known by where it is, not by its contents."""
        return len(self.name) != 64

    def __str__(self) -> str:
        return self.name if self.is_reference else self.name[:8]


Listing = Callable[[Digest], Sequence[FileRow] | None]
"""Name of an input -> its files, or None when they are not known."""


class KeyParts(NamedTuple):
    """All that a node's keys are made of.

    ``command`` has a ``%s`` for each of ``arguments``: ``i`` or ``o`` (input, output) and an index; for
    interns and externs it is the URL. ``names`` are those of the arguments as the program has them.
    ``inputs`` are the names of the contents of the dependencies. ``extra``: whatever else there is.
    """

    op: str
    image: str = ""
    command: str = ""
    arguments: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    inputs: tuple[Digest, ...] = ()
    extra: str = ""

    def input_name(self, index: int) -> str:
        """The name that the command has for an input."""
        reference = f"i{index}"
        if reference in self.arguments:
            return self.names[self.arguments.index(reference)]
        return f"number {index}" if self.op == "exec" else "files"

    @property
    def shown_command(self) -> str:
        """The command with the names of its arguments, without common indentation."""
        if self.op != "exec":
            return self.command
        return "\n".join(dedent(command_text(self.command, self.names).split("\n")))


class FileChange(NamedTuple):
    """A file of an input that is not as it was; one of both is None when it was not there."""

    now: FileRow | None
    then: FileRow | None


class Change(NamedTuple):
    """A part of a key that differs.

    ``part`` is image, command, url, input and so on; ``name`` that of an input. ``lines`` show it (in the
    manner of a diff, where there is a then and a now). ``files`` has the files of an input that differ.
    """

    part: str
    name: str = ""
    lines: tuple[str, ...] = ()
    files: tuple[FileChange, ...] = ()

    @property
    def title(self) -> str:
        """What differs, in a few words."""
        return f"input {self.name}" if self.part == "input" else self.part


def content_id(value: Fileset) -> Digest:
    """The name of a fileset's contents: the digest that a constant of it has in a graph."""
    return value.remembered("content", lambda: Digest(sha256(Val.digest_name + value.material()).digest()))


def file_row(path: str, file: File) -> FileRow:
    """A file as it is shown."""
    name = file.id.hex() if file.id is not None else " ".join(filter(None, (file.source, file.etag)))
    return FileRow(path, name, file.size)


def file_rows(value: Fileset, lead: str = "") -> list[FileRow]:
    """All files of a fileset, those of a list's members below their index."""
    if value.members is not None:
        rows: list[FileRow] = []
        for index, member in enumerate(value.members):
            rows += file_rows(member, f"{lead}[{index}]/")
        return rows
    if not lead:
        return [file_row(path, value.files[path]) for path in value.sorted_paths()]
    return [file_row(_below(lead, path), value.files[path]) for path in value.sorted_paths()]


def _below(lead: str, path: str) -> str:
    return lead[:-1] if path == "." else lead + path


def parts_of(node: External, values: Sequence[Any] | None) -> KeyParts:
    """The parts of a node's keys. ``values``: of its dependencies, or None when they are not known."""
    mark = universe()
    if not isinstance(node, Exec):
        return KeyParts(node.op, command=node.url, inputs=_inputs(node, values), extra=mark)
    if node.extra_digest is not None:
        mark += f" {node.extra_digest}"
    return KeyParts(
        node.op,
        node.image,
        node.cmd,
        tuple([f"{'o' if ref.is_output else 'i'}{ref.index}" for ref in node.arguments]),
        node.arg_names,
        _inputs(node, values),
        mark,
    )


def _inputs(node: External, values: Sequence[Any] | None) -> tuple[Digest, ...]:
    if values is None:
        return tuple([digest(dep) for dep in node.deps])
    if universe():
        return tuple(map(content_id, values))
    # The digest of a constant is known already, and the same.
    return tuple(
        [
            digest(dep) if isinstance(dep, Val) else content_id(value)
            for dep, value in zip(node.deps, values, strict=True)
        ]
    )


def compare(now: KeyParts, then: KeyParts, listing: Listing) -> list[Change]:
    """What differs between two nodes, in the order in which people would look."""
    changes = []
    if now.op != then.op:
        changes.append(Change("operation", lines=(f"- {then.op}", f"+ {now.op}")))
    if now.image != then.image:
        changes.append(Change("image", lines=(f"- {then.image}", f"+ {now.image}")))
    if now.command != then.command:
        part = "command" if now.op == "exec" else "url"
        changes.append(Change(part, lines=tuple(_diff(then.shown_command, now.shown_command))))
    elif now.arguments != then.arguments:
        lines = (f"- {' '.join(then.arguments)}", f"+ {' '.join(now.arguments)}")
        changes.append(Change("order of arguments", lines=lines))
    changes += _input_changes(now, then, listing)
    if now.extra != then.extra:
        changes.append(Change("universe", lines=(f"- {then.extra}", f"+ {now.extra}")))
    return changes


def _diff(then: str, now: str) -> Iterable[str]:
    import difflib

    for line in difflib.unified_diff(then.split("\n"), now.split("\n"), n=1, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield f"{line[0]} {line[1:]}".rstrip()


def _input_changes(now: KeyParts, then: KeyParts, listing: Listing) -> Iterable[Change]:
    for index, name in enumerate(now.inputs):
        before = _counterpart(now, index, then)
        if before is None:
            files = tuple([FileChange(row, None) for row in listing(name) or ()])
            yield Change("input", now.input_name(index), ("it is new",), files)
        elif before != name:
            yield Change("input", now.input_name(index), *_file_changes(listing(name), listing(before)))
    for index, name in enumerate(then.inputs):
        if _counterpart(then, index, now) is None:
            files = tuple([FileChange(None, row) for row in listing(name) or ()])
            yield Change("input", then.input_name(index), ("it is not there any more",), files)


def _counterpart(one: KeyParts, index: int, other: KeyParts) -> Digest | None:
    """The same input of the other node: of equal name, or where there are no names of equal number."""
    mine, theirs = _input_names(one), _input_names(other)
    if len(mine) == len(one.inputs) and len(theirs) == len(other.inputs):
        at = theirs.get(one.input_name(index))
        return None if at is None else other.inputs[at]
    return other.inputs[index] if index < len(other.inputs) else None


def _input_names(parts: KeyParts) -> dict[str, int]:
    return {parts.input_name(index): index for index in range(len(parts.inputs))}


def _file_changes(
    now: Sequence[FileRow] | None, then: Sequence[FileRow] | None
) -> tuple[tuple[str, ...], tuple[FileChange, ...]]:
    if now is None or then is None:
        return ("its files are not recorded",), ()
    before, after = {row.path: row for row in then}, {row.path: row for row in now}
    changes = [FileChange(row, before.get(row.path)) for row in now if row != before.get(row.path)]
    changes += [FileChange(None, row) for row in then if row.path not in after]
    return (), tuple(sorted(changes, key=_path_of))


def _path_of(change: FileChange) -> bytes:
    row = change.now or change.then
    assert row is not None, "a change of nothing"
    return path_bytes(row.path)


def distance(now: KeyParts, then: KeyParts) -> tuple[int, int]:
    """How far two nodes are apart: the number of parts that differ, and about how much of the command."""
    count = sum(
        (now.op != then.op, now.image != then.image, now.command != then.command, now.extra != then.extra)
    )
    count += abs(len(now.inputs) - len(then.inputs))
    count += sum(mine != theirs for mine, theirs in zip(now.inputs, then.inputs, strict=False))
    if now.command == then.command:
        return count, 0
    shared = _common_length(now.command, then.command)
    shared += _common_length(now.command[shared:][::-1], then.command[shared:][::-1])
    return count, len(now.command) + len(then.command) - 2 * shared


def _common_length(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
