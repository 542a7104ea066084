"""Reading the record of decisions: runs, the nodes they had, and where files came from.

Source of everything: the tables of `reflow.runtime.explain`. Rows are read when they are asked for.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from reflow.core.digest import Digest, DigestPrefix
from reflow.eval.explain import Verdict
from reflow.eval.keyparts import FileRow, KeyParts
from reflow.runtime.explain import RunFacts, chunks, read_code, unpack

_CANDIDATES = 5000
_RUNS_SEARCHED = 500


class NodeRow(NamedTuple):
    """A recorded node. ``parts`` has the digest of its command in place of the command itself."""

    number: int
    flow: Digest
    ident: str
    position: str
    parts: KeyParts
    first_us: int

    @property
    def label(self) -> str:
        """How it is named in texts."""
        return f"{self.ident or self.parts.op} {self.flow.short}"


class Entry(NamedTuple):
    """What was decided of a node in one run, and what came of it."""

    number: int
    verdict: Verdict
    outcome: int
    task: Digest | None = None
    detail: str = ""
    error: str = ""


class RecordedRun:
    """One run as it was recorded."""

    def __init__(self, connection: sqlite3.Connection, row: Sequence[Any]) -> None:
        self._connection = connection
        self.facts = RunFacts(Digest(row[0]), row[1], _text(row[2]), json.loads(row[3]))
        self._list_id, self._codes, self._tasks, self._notes, self._inputs = row[4:]

    @cached_property
    def numbers(self) -> array[int]:
        """Numbers of its nodes."""
        numbers = array("I")
        sql = "SELECT nodes FROM lists WHERE id = ?"
        for (packed,) in self._connection.execute(sql, (self._list_id,)):
            numbers.frombytes(packed)
        return numbers

    @cached_property
    def entries(self) -> dict[int, Entry]:
        """What was decided, by number of the node."""
        notes = json.loads(unpack(self._notes)) if self._notes is not None else {}
        tasks = iter([self._tasks[at : at + 32] for at in range(0, len(self._tasks), 32)])
        entries = {}
        for place, (number, code) in enumerate(zip(self.numbers, self._codes, strict=True)):
            verdict, outcome = read_code(code)
            task = None if verdict.is_hit else next(tasks)
            detail, error = notes.get(str(place), ("", ""))
            known = Digest(task) if task is not None and any(task) else None
            entries[number] = Entry(number, verdict, outcome, known, detail, error)
        return entries

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Paths of its local files by digest, in hexadecimal."""
        found: dict[str, str] = {}
        if self._inputs is None:
            return found
        row = self._connection.execute("SELECT text FROM texts WHERE id = ?", (self._inputs,)).fetchone()
        text = b"" if row is None else unpack(row[0])
        at = 0
        while at < len(text):
            end = text.index(b"\0", at)
            name = text[end + 1 : end + 33].hex()
            found.setdefault(name, text[at:end].decode("utf-8", "surrogateescape"))
            at = end + 33
        return found


_RUN_SQL = "SELECT id, start_us, program, settings, nodes, codes, tasks, notes, inputs FROM runs"
_NODE_SQL = "SELECT number, flow, ident, command, parts, first_us FROM nodes"


class Reader:
    """Answers questions about what was recorded."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _runs(self, rest: str, values: Sequence[Any] = ()) -> list[RecordedRun]:
        rows = self._connection.execute(f"{_RUN_SQL} {rest}", values)
        return [RecordedRun(self._connection, row) for row in rows.fetchall()]

    def latest(self) -> RecordedRun | None:
        """The run that began last."""
        runs = self._runs("ORDER BY start_us DESC LIMIT 1")
        return runs[0] if runs else None

    def runs(self, prefix: DigestPrefix) -> list[RecordedRun]:
        """Runs whose ids begin so, newest first."""
        bounds = (prefix.raw, prefix.raw.ljust(33, b"\xff"))
        return self._runs("WHERE id BETWEEN ? AND ? ORDER BY start_us DESC", bounds)

    def run_at(self, start_us: int) -> RecordedRun | None:
        """The run that began then."""
        runs = self._runs("WHERE start_us = ?", (start_us,))
        return runs[0] if runs else None

    def last_with(self, number: int, before_us: int) -> RecordedRun | None:
        """The last run before a time that had a node; only recent runs are looked at."""
        rest = "WHERE start_us < ? ORDER BY start_us DESC LIMIT ?"
        for run in self._runs(rest, (before_us, _RUNS_SEARCHED)):
            if number in run.numbers:
                return run
        return None

    # Nodes.

    def nodes(self, numbers: Collection[int]) -> dict[int, NodeRow]:
        """Nodes by number."""
        found = {}
        for chunk in chunks(list(numbers)):
            marks = ",".join("?" * len(chunk))
            for row in self._connection.execute(f"{_NODE_SQL} WHERE number IN ({marks})", chunk):
                found[row[0]] = _node(row)
        return found

    def idents(self, numbers: Sequence[int]) -> Iterator[tuple[int, str, Digest]]:
        """Number, identifier and logical digest of nodes."""
        for chunk in chunks(numbers):
            marks = ",".join("?" * len(chunk))
            sql = f"SELECT number, ident, flow FROM nodes WHERE number IN ({marks}) ORDER BY number"
            for number, ident, flow in self._connection.execute(sql, chunk):
                yield number, _text(ident), Digest(flow)

    def with_ident(self, ident: str, op: str, before_us: int) -> list[NodeRow]:
        """Nodes of earlier runs with this identifier, newest first."""
        return self._earlier("ident", _bytes(ident), op, before_us)

    def with_same_command(self, node: NodeRow, before_us: int) -> list[NodeRow]:
        """Nodes of earlier runs with the same command or URL, newest first."""
        return self._earlier("command", bytes.fromhex(node.parts.command), node.parts.op, before_us)

    def _earlier(self, column: str, value: bytes, op: str, before_us: int) -> list[NodeRow]:
        sql = f"{_NODE_SQL} WHERE {column} = ? AND first_us < ? ORDER BY number DESC LIMIT ?"
        rows = self._connection.execute(sql, (value, before_us, _CANDIDATES)).fetchall()
        return [each for each in map(_node, rows) if each.parts.op == op]

    def with_command(self, node: NodeRow) -> KeyParts:
        """All parts of a node, its command as text."""
        sql = "SELECT text FROM texts WHERE id = ?"
        row = self._connection.execute(sql, (bytes.fromhex(node.parts.command),)).fetchone()
        command = "" if row is None else _text(unpack(row[0]))
        return node.parts._replace(command=command)

    # Files.

    def listing(self, name: Digest) -> list[FileRow] | None:
        """The files of a fileset; None when they are not recorded."""
        row = self._connection.execute("SELECT files FROM filesets WHERE id = ?", (name,)).fetchone()
        if row is None or not row[0]:
            return None
        return [FileRow(*each) for each in json.loads(unpack(row[0]))]

    def values(self, numbers: Collection[int]) -> Iterator[tuple[int, int, Digest]]:
        """Number of a node, index of an output, and the name of what it wrote."""
        for chunk in chunks(list(numbers)):
            marks = ",".join("?" * len(chunk))
            sql = f"SELECT node, value FROM outcomes WHERE node IN ({marks})"
            for number, value in self._connection.execute(sql, chunk):
                for index in range(len(value) // 32):
                    yield number, index, Digest(value[index * 32 : index * 32 + 32])


class Origins:
    """Where the files of one run came from: this machine, an exec, a URL, or the program itself."""

    def __init__(self, reader: Reader, run: RecordedRun) -> None:
        self._reader = reader
        self._run = run

    @cached_property
    def _by_set(self) -> dict[Digest, tuple[int, int]]:
        """Name of an output -> the node and its index."""
        return {name: (number, index) for number, index, name in self._reader.values(self._run.numbers)}

    @cached_property
    def _by_file(self) -> dict[str, tuple[int, int, str]]:
        """Digest of a file -> the node, the index of the output, and the path there."""
        found: dict[str, tuple[int, int, str]] = {}
        for name, (number, index) in self._by_set.items():
            for row in self._reader.listing(name) or ():
                found.setdefault(row.name, (number, index, row.path))
        return found

    def local_path(self, row: FileRow) -> str | None:
        """The path of the local file that has these contents, if one was an input."""
        return self._run.inputs.get(row.name)

    def of_file(self, row: FileRow, below: Digest | None, reader: int) -> tuple[str, NodeRow | None]:
        """Where a file came from, in words; and the node that wrote it, if one did.

        ``below``: the name of the input that it is a file of, if that is known; ``reader``: the number of the
        node that reads it, which has not made it, even if it wrote the same.
        """
        path = self._run.inputs.get(row.name)
        if path is not None:
            return f"file {path}", None
        at = self._by_set.get(below) if below is not None else None
        if at is not None and at[0] != reader:
            return self._told(at[0], at[1], row.path)
        if row.is_reference:
            return "a reference", None
        written = self._by_file.get(row.name)
        if written is None or written[0] == reader:
            return "made by the program", None
        return self._told(*written)

    def _node(self, number: int) -> NodeRow:
        return self._reader.nodes([number])[number]

    def _told(self, number: int, index: int, path: str) -> tuple[str, NodeRow]:
        node = self._node(number)
        if node.parts.op == "intern":
            return f"from {self._reader.with_command(node).command}", node
        name = _output_name(node.parts, index)
        inside = "" if path == "." else f", {path}"
        return f"{name} of {node.label}{inside}", node


def _output_name(parts: KeyParts, index: int) -> str:
    reference = f"o{index}"
    if reference not in parts.arguments:
        return f"output {index}"
    return "output " + parts.names[parts.arguments.index(reference)].strip("{}")


def _node(row: Sequence[Any]) -> NodeRow:
    number, flow, ident, command, packed, first_us = row
    op, position, image, arguments, names, inputs, extra = json.loads(unpack(packed))
    parts = KeyParts(
        op,
        image,
        command.hex(),
        tuple(arguments),
        tuple(names),
        tuple([Digest.parse(name) for name in inputs]),
        extra,
    )
    return NodeRow(number, Digest(flow), _text(ident), position, parts, first_us)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
