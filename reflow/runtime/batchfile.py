"""The two files that define a batch: which program, and one row of parameters per run.

``config.json``: ``{"program": PATH, "runs_file": PATH}``, relative to its own directory. The runs file is
CSV: a header, then a row for each run: its id, and a value for each parameter that the header names.
Source: batch/batch.go, Batch.Init and read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.core.gocsv import CsvError, read_csv
from reflow.runtime.config import ConfigError

_MAX_ID_BYTES = 200


class BatchError(ConfigError):
    """A batch that cannot be run; the text says what is wrong, and where."""


class BatchFiles:
    """Where a batch's files are. ``config_path`` may be relative to the working directory."""

    def __init__(self, config_path: str) -> None:
        self.config_path = config_path
        self.directory = os.path.dirname(config_path) or "."

    def path(self, name: str) -> str:
        """A path that the configuration gives, as it is shown and opened."""
        return os.path.normpath(name if os.path.isabs(name) else os.path.join(self.directory, name))

    @property
    def state(self) -> str:
        """The state of the batch, without its extension."""
        return self.path("state")

    def log(self, id: str) -> str:
        """The log of a run."""
        return self.path(f"log.{id}")


class BatchConfig(NamedTuple):
    """What the configuration says: both paths as they are written there."""

    program: str
    runs_file: str


class BatchRow(NamedTuple):
    """A run of the batch: its id, and its parameters in the order of the header."""

    id: str
    params: Mapping[str, str]


def read_config(files: BatchFiles) -> BatchConfig:
    """Read the configuration. Raises OSError, or BatchError for what is none."""
    path = files.config_path
    text = _read_text(path)
    try:
        document = json.loads(text)
    except ValueError as err:
        raise BatchError(f"{path}: not JSON: {err}") from err
    if not isinstance(document, dict):
        raise BatchError(f"{path}: want an object with the keys program and runs_file")
    given = {key.lower(): value for key, value in document.items()}
    return BatchConfig(*[_path_value(path, key, given.get(key)) for key in BatchConfig._fields])


def _path_value(path: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        shown = "not given" if value is None else json.dumps(value)
        raise BatchError(f"{path}: {key} is {shown}, want a path")
    return value


def batch_id(config: BatchConfig, runs_text: str) -> Digest:
    """What a batch is called: its program, its runs file, and what is in that."""
    return Digest.of_text(config.program + config.runs_file + runs_text)


def read_runs(files: BatchFiles, config: BatchConfig) -> str:
    """The text of the runs file. Raises OSError, or BatchError."""
    return _read_text(files.path(config.runs_file))


def parse_runs(text: str) -> list[BatchRow]:
    """Read the rows of a runs file. Raises BatchError."""
    try:
        records = [record.fields for record in read_csv(text)]
    except CsvError as err:
        raise BatchError(str(err)) from err
    if not records:
        raise BatchError("empty batch")
    header = records[0]
    if "" in header[1:]:
        number = header.index("", 1) + 1
        raise BatchError(f"column {number} has no name: the header names a parameter for each column")
    rows: dict[str, BatchRow] = {}
    for fields in records[1:]:
        if len(fields) != len(header):
            shown = " ".join(fields)
            raise BatchError(f"batch file row [[{shown}]] has {len(fields)} fields, need {len(header)}")
        id = fields[0]
        _check_id(id)
        if id in rows:
            raise BatchError(f"two rows have the id {id}")
        rows[id] = BatchRow(id, dict(zip(header[1:], fields[1:], strict=True)))
    return list(rows.values())


def _check_id(id: str) -> None:
    """An id is part of the name of a file."""
    if not id or "/" in id or "\0" in id or len(id.encode("utf-8", "surrogateescape")) > _MAX_ID_BYTES:
        raise BatchError(f"{json.dumps(id)} cannot be the id of a run: it is part of the name of its log")


def _read_text(path: str) -> str:
    with open(path, "rb") as stream:
        data = stream.read()
    return data.decode("utf-8", "surrogateescape")
