"""Conversions between values and the filesets that execs take and give.

Source: syntax/compat.go.
"""

from __future__ import annotations

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.flow.node import Coerce, Flow
from reflow.lang.types import ListType, Type
from reflow.lang.value import Dir, Value

FILESET_TO_FILE_TAG = Digest.of_text("grail.com/reflow/syntax.coerceFilesetToFile")
FILESET_TO_DIR_TAG = Digest.of_text("grail.com/reflow/syntax.coerceFilesetToDir")


def to_fileset(value: Value, type: Type) -> Fileset:
    """A file, a dir, or lists of them, as a fileset."""
    if isinstance(value, File):
        return Fileset.of_file(value)
    if isinstance(value, Dir):
        return value.fileset()
    assert isinstance(type, ListType), f"invalid input type {type}"
    return Fileset(members=[to_fileset(each, type.element) for each in value])


def fileset_to_file(fileset: Fileset) -> File:
    """The lone file of a fileset. Raises PRECONDITION when it is none."""
    return fileset.file()


def fileset_to_dir(fileset: Fileset) -> Dir:
    """The mapping of a fileset as a dir."""
    return Dir(fileset.files)


def file_of(flow: Flow) -> Coerce:
    """The node that gives the lone file of a node's fileset."""
    return Coerce(fileset_to_file, flow, FILESET_TO_FILE_TAG)


def dir_of(flow: Flow) -> Coerce:
    """The node that gives a node's fileset as a dir."""
    return Coerce(fileset_to_dir, flow, FILESET_TO_DIR_TAG)
