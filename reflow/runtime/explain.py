"""The record of decisions: for each run what came from the cache, what was executed, and on what keys.

One SQLite file, ``explain.db``, beside the other state. Everything is kept once: the parts of a node's keys
by its logical digest, texts and filesets by theirs, and the list of a run's nodes by its contents. So a run
that finds everything in the cache, as the one before did, adds one row. It may be deleted at any time:
then `reflow why` knows nothing of earlier runs.

The functions take a connection: `reflow.disk.database` says when they are called, and how often.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from reflow.core.digest import Digest
from reflow.core.fileset import Fileset, path_bytes
from reflow.disk.database import Database, Schema
from reflow.eval.explain import Decisions, Execution, Found, Verdict
from reflow.eval.keyparts import content_id, file_rows, parts_of
from reflow.flow.data import LocalFile
from reflow.flow.digest import digest
from reflow.flow.node import Exec, External
from reflow.runtime.home import home

SCHEMA = Schema(
    name="explain",
    application_id=0x52464C58,
    version=1,
    create=(
        """CREATE TABLE runs (
            id BLOB PRIMARY KEY, start_us INTEGER NOT NULL, program BLOB, settings BLOB NOT NULL,
            nodes BLOB NOT NULL, codes BLOB NOT NULL, tasks BLOB NOT NULL, notes BLOB, inputs BLOB
        )""",
        "CREATE INDEX runs_start ON runs (start_us)",
        """CREATE TABLE nodes (
            number INTEGER PRIMARY KEY, flow BLOB NOT NULL UNIQUE, ident, command BLOB, parts BLOB NOT NULL,
            first_us INTEGER NOT NULL
        )""",
        "CREATE INDEX nodes_ident ON nodes (ident)",
        "CREATE INDEX nodes_command ON nodes (command)",
        "CREATE TABLE lists (id BLOB PRIMARY KEY, nodes BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE texts (id BLOB PRIMARY KEY, text BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE filesets (id BLOB PRIMARY KEY, files BLOB NOT NULL) WITHOUT ROWID",
        """CREATE TABLE outcomes (
            node INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (node, value)
        ) WITHOUT ROWID""",
    ),
    loss="reflow why knows nothing of earlier runs",
    is_expendable=True,
)

KEPT_RUNS = 10_000
MAX_FILES = 10_000
"""A fileset with more files is recorded without them."""

ENDED_WELL, FAILED, UNFINISHED = range(3)
"""What came of a node; stored above the verdict, in one byte."""

_OUTCOME_SHIFT = 4
_PACK_BYTES = 1 << 10
_CHUNK = 500
_ERROR_CHARACTERS = 400


class RunFacts(NamedTuple):
    """What is recorded of a run as a whole. ``settings`` is what decided how it was evaluated."""

    id: Digest
    start_us: int
    program: str
    settings: Mapping[str, Any]


def explain_database() -> Database:
    """The file of this user; it is opened on first use."""
    return Database(os.path.join(home(), "explain.db"), SCHEMA)


def pack(text: bytes) -> bytes:
    """A longer text gets compressed; compressed ones begin with ``x``, as no other that is packed does."""
    return zlib.compress(text, 1) if len(text) > _PACK_BYTES else b"=" + text


def unpack(data: bytes) -> bytes:
    """What was packed."""
    return data[1:] if data[:1] == b"=" else zlib.decompress(data)


def code_of(verdict: Verdict, outcome: int = ENDED_WELL) -> int:
    """A verdict and what came of it in one byte."""
    return verdict | outcome << _OUTCOME_SHIFT


def read_code(code: int) -> tuple[Verdict, int]:
    """The verdict and the outcome in a byte."""
    return Verdict(code & ((1 << _OUTCOME_SHIFT) - 1)), code >> _OUTCOME_SHIFT


def _execution_code(execution: Execution) -> int:
    if execution.error is not None:
        return code_of(execution.miss.verdict, FAILED)
    return code_of(execution.miss.verdict, UNFINISHED if execution.value is None else ENDED_WELL)


class RunWriter:
    """Writes one run. ``decisions`` are those of its evaluations in order, ``inputs`` its local files."""

    def __init__(
        self, facts: RunFacts, decisions: Sequence[Decisions], inputs: Collection[LocalFile]
    ) -> None:
        self._facts = facts
        self._inputs = inputs
        self._found: dict[Digest, Found] = {}
        self._executed: dict[Digest, Execution] = {}
        codes: dict[Digest, int] = {}
        for each in decisions:
            for found in each.found:
                name = digest(found.node)
                codes.setdefault(name, found.verdict)
                self._found[name] = found
            for execution in each.executed:
                name = digest(execution.node)
                codes[name] = _execution_code(execution)
                self._executed[name] = execution
        self._codes = codes
        self._flows = sorted(codes)
        self._fresh: set[Digest] = set()
        """Nodes that no earlier run had."""

    def write(self, connection: sqlite3.Connection) -> None:
        """Write everything, in a transaction of the caller's."""
        list_id = sha256(b"".join(self._flows)).digest()
        known = connection.execute("SELECT 1 FROM lists WHERE id = ?", (list_id,)).fetchone()
        if known is None:
            numbers = self._write_nodes(connection, self._flows)
            packed = array("I", [numbers[flow] for flow in self._flows]).tobytes()
            connection.execute("INSERT INTO lists VALUES (?, ?)", (list_id, packed))
        else:
            numbers = self._write_nodes(connection, sorted(self._executed))
        self._write_outcomes(connection, numbers)
        self._write_run(connection, list_id)

    def _write_run(self, connection: sqlite3.Connection, list_id: bytes) -> None:
        facts = self._facts
        tasks, notes = self._tasks_and_notes()
        images = self._images()
        settings = {**facts.settings, **({"images": images} if images else {})}
        row = (
            facts.id,
            facts.start_us,
            path_bytes(facts.program),
            json.dumps(settings),
            list_id,
            bytes([self._codes[flow] for flow in self._flows]),
            tasks,
            pack(json.dumps(notes).encode()) if notes else None,
            self._write_inputs(connection),
        )
        connection.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        _forget(connection)

    def _images(self) -> dict[str, str]:
        """Images as written -> with their digests, as far as they were asked for."""
        images = {}
        for each in self._executed.values():
            if isinstance(each.node, Exec) and each.image is not None:
                images[each.node.image] = each.image
        return images

    def _tasks_and_notes(self) -> tuple[bytes, dict[str, list[str]]]:
        """Task ids of what was executed, in order; by number in the list, what there is to say beyond."""
        tasks: list[bytes] = []
        notes: dict[str, list[str]] = {}
        executed = self._executed
        for number, flow in enumerate(self._flows if executed else ()):
            execution = executed.get(flow)
            if execution is None:
                continue
            tasks.append(execution.task or bytes(32))
            error = "" if execution.error is None else str(execution.error)[:_ERROR_CHARACTERS]
            if error or execution.miss.detail:
                notes[str(number)] = [execution.miss.detail[:_ERROR_CHARACTERS], error]
        return b"".join(tasks), notes

    def _write_inputs(self, connection: sqlite3.Connection) -> bytes | None:
        """Paths and digests of the local files of the run."""
        rows = [path_bytes(file.path) + b"\0" + file.digest for file in self._inputs if file.is_hashed]
        if not rows:
            return None
        text = b"".join(rows)
        name = sha256(text).digest()
        if connection.execute("SELECT 1 FROM texts WHERE id = ?", (name,)).fetchone() is None:
            connection.execute("INSERT INTO texts VALUES (?, ?)", (name, pack(text)))
        return name

    # Nodes.

    def _write_nodes(self, connection: sqlite3.Connection, flows: Sequence[Digest]) -> dict[Digest, int]:
        """Write those that are not known yet; return the numbers of all."""
        numbers = _numbers(connection, flows)
        new = [flow for flow in flows if flow not in numbers]
        for chunk in chunks(new):
            filesets: dict[Digest, bytes] = {}
            texts: dict[bytes, bytes] = {}
            for flow in chunk:
                decision = self._executed.get(flow) or self._found[flow]
                row = _node_row(decision.node, decision.values, filesets, texts)
                cursor = connection.execute(_INSERT_NODE, (flow, *row, self._facts.start_us))
                assert cursor.lastrowid is not None
                numbers[flow] = cursor.lastrowid
            connection.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?)", texts.items())
            connection.executemany("INSERT OR IGNORE INTO filesets VALUES (?, ?)", filesets.items())
        self._fresh = set(new)
        return numbers

    def _write_outcomes(self, connection: sqlite3.Connection, numbers: Mapping[Digest, int]) -> None:
        """Write the values of what was executed, and of nodes that no earlier run had."""
        for chunk in chunks(list(self._fresh | self._executed.keys())):
            filesets: dict[Digest, bytes] = {}
            rows = []
            for flow in chunk:
                decision = self._executed.get(flow) or self._found[flow]
                if decision.value is not None:
                    names = [_note_fileset(member, filesets) for member in decision.value.flatten()]
                    rows.append((numbers[flow], b"".join(names)))
            connection.executemany("INSERT OR IGNORE INTO outcomes VALUES (?, ?)", rows)
            connection.executemany("INSERT OR IGNORE INTO filesets VALUES (?, ?)", filesets.items())


_INSERT_NODE = "INSERT INTO nodes (flow, ident, command, parts, first_us) VALUES (?, ?, ?, ?, ?)"


async def record_run(
    facts: RunFacts,
    decisions: Sequence[Decisions],
    inputs: Collection[LocalFile],
    shared: Database | None = None,
) -> None:
    """Record a run that has ended; in a file that is open for several, if it is given. Raises ReflowError."""
    database = shared or explain_database()
    try:
        writer = RunWriter(facts, decisions, inputs)
        await database.perform(database.transact(writer.write))
    finally:
        if shared is None:
            database.close()


def _node_row(
    node: External,
    values: Sequence[Any] | None,
    filesets: dict[Digest, bytes],
    texts: dict[bytes, bytes],
) -> tuple[bytes, bytes, bytes]:
    """Identifier, digest of the command, and the other parts."""
    parts = parts_of(node, values)
    for name, value in zip(parts.inputs, values or (), strict=False):
        if name not in filesets and isinstance(value, Fileset):
            filesets[name] = _files_blob(value)
    command = path_bytes(parts.command)
    command_id = sha256(command).digest()
    if command_id not in texts:
        texts[command_id] = pack(command)
    inputs = [name.hex() for name in parts.inputs]
    rest = [parts.op, str(node.pos), parts.image, parts.arguments, parts.names, inputs, parts.extra]
    return path_bytes(node.ident), command_id, pack(json.dumps(rest, separators=(",", ":")).encode())


def _note_fileset(value: Fileset, filesets: dict[Digest, bytes]) -> Digest:
    name = content_id(value)
    if name not in filesets:
        filesets[name] = _files_blob(value)
    return name


def _files_blob(value: Fileset) -> bytes:
    """The files of a fileset as they are stored; empty when they are too many."""
    if len(value.files) > MAX_FILES or value.count() > MAX_FILES:
        return b""
    return pack(json.dumps(file_rows(value), separators=(",", ":")).encode())


def _numbers(connection: sqlite3.Connection, flows: Sequence[Digest]) -> dict[Digest, int]:
    """The numbers of those nodes that are known."""
    found: dict[Digest, int] = {}
    for chunk in chunks(flows):
        marks = ",".join("?" * len(chunk))
        sql = f"SELECT flow, number FROM nodes WHERE flow IN ({marks})"
        found.update({Digest(flow): number for flow, number in connection.execute(sql, chunk)})
    return found


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Pieces that fit into one statement."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def _forget(connection: sqlite3.Connection) -> None:
    """Drop the oldest runs when there are too many."""
    sql = "SELECT start_us FROM runs ORDER BY start_us DESC LIMIT 1 OFFSET ?"
    oldest: Iterable[tuple[int]] = connection.execute(sql, (KEPT_RUNS,)).fetchall()
    for (limit_us,) in oldest:
        connection.execute("DELETE FROM runs WHERE start_us <= ?", (limit_us,))
        connection.execute("DELETE FROM lists WHERE id NOT IN (SELECT nodes FROM runs)")
