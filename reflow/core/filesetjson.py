"""Filesets as JSON: the plain form inside results, configurations and manifests, and the stored form of v1.

Both are ``{"List": […], "Fileset": {path: file}}``. The plain form has no assertions. The stored form is the
assoc kind Fileset: it is read strictly, and never written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from reflow.core.assertion import NO_ASSERTIONS, AssertionKey, Assertions
from reflow.core.digest import digest_text
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.core.gojson import Constant, JsonObject, fold, parse_digest, parse_time, time_text

_OP = "fileset.decode"


def fileset_to_json(fileset: Fileset) -> JsonObject:
    """The plain form, not to be changed; ``{}`` for an empty fileset."""
    if not fileset.is_large:
        return _to_json(fileset)
    return fileset.remembered("json", lambda: Constant(_to_json(fileset)))


def _to_json(fileset: Fileset) -> JsonObject:
    row: JsonObject = {}
    if fileset.members:
        row["List"] = [fileset_to_json(member) for member in fileset.members]
    if fileset.files:
        row["Fileset"] = {path: file_to_json(fileset.files[path]) for path in fileset.sorted_paths()}
    return row


def file_to_json(file: File) -> JsonObject:
    """One file of the plain form."""
    row: JsonObject = {"ID": digest_text(file.id), "Size": file.size}
    if file.source:
        row["Source"] = file.source
    if file.etag:
        row["ETag"] = file.etag
    row["LastModified"] = time_text(file.last_modified)
    row["ContentHash"] = digest_text(file.content_hash)
    return row


def fileset_from_json(row: Any) -> Fileset:
    """Read the plain form. Raises ValueError; unknown fields are ignored."""
    fields = fold(row)
    members = fields.get("list")
    files = fold_files(fields.get("fileset"))
    return Fileset(files, None if members is None else [fileset_from_json(member) for member in members])


def fold_files(row: Any) -> dict[str, File]:
    """Read path -> file. Raises ValueError."""
    if row is None:
        return {}
    if not isinstance(row, dict):
        raise ValueError(f"files are {type(row).__name__}, want an object")
    return {path: file_from_json(file) for path, file in row.items()}


def file_from_json(row: Any) -> File:
    """Read one file of the plain form. Raises ValueError."""
    fields = fold(row)
    return File(
        parse_digest(fields.get("id")),
        _integer(fields.get("size")),
        fields.get("source") or "",
        fields.get("etag") or "",
        parse_time(fields.get("lastmodified")),
        parse_digest(fields.get("contenthash")),
    )


def _integer(value: object) -> int:
    if value is None:
        return 0
    if type(value) is not int:
        raise ValueError(f"size is {value!r}, want an integer")
    return value


def decode_stored_fileset(data: bytes) -> Fileset:
    """Read the stored form (v1). Raises INVALID for what is no JSON, PRECONDITION for what is no fileset.

    Names match exactly, unknown ones are errors; text behind the fileset is ignored, as the original does.
    """
    text = data.decode("utf-8", "surrogateescape")
    try:
        pairs, _ = _DECODER.raw_decode(text.lstrip(" \t\r\n"))
        return _stored_fileset(pairs)
    except (json.JSONDecodeError, RecursionError) as err:
        raise ReflowError(Kind.INVALID, _OP, cause=f"no JSON: {err}") from err
    except (ValueError, OverflowError) as err:
        raise ReflowError(Kind.INVALID, _OP, cause=err) from err


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that repetitions and the difference to a list are kept."""


# Control characters are let through: paths were written as they are.
_DECODER = json.JSONDecoder(object_pairs_hook=_Object, strict=False)


def _unexpected(what: str) -> ReflowError:
    return ReflowError(Kind.PRECONDITION, _OP, cause=f"unexpected {what}")


def _object(value: object, what: str) -> _Object:
    if not isinstance(value, _Object):
        raise _unexpected(f"{type(value).__name__} for {what} (want an object)")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or isinstance(value, _Object):
        raise _unexpected(f"{type(value).__name__} for {what} (want a list)")
    return value


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"got {value!r}, want a text")
    return value


def _stored_fileset(value: object) -> Fileset:
    files: dict[str, File] = {}
    members: list[Fileset] | None = None
    for name, inner in _object(value, "a fileset"):
        if name == "List":
            members = [*(members or ()), *map(_stored_fileset, _list(inner, name))]
        elif name == "Fileset":
            files = {path: _stored_file(file) for path, file in _object(inner, name)}
        else:
            raise _unexpected(f"field {name!r} (want 'List' or 'Fileset')")
    return Fileset(files, members or None)


_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "ID": ("id", lambda value: parse_digest(_text(value))),
    "Size": ("size", _integer),
    "ETag": ("etag", _text),
    "Source": ("source", _text),
    "LastModified": ("last_modified", lambda value: parse_time(_text(value))),
    "ContentHash": ("content_hash", lambda value: parse_digest(_text(value))),
    "Assertions": ("assertions", lambda value: _stored_assertions(value)),
}


def _stored_file(value: object) -> File:
    fields: dict[str, Any] = {}
    for name, inner in _object(value, "a file"):
        if name not in _FIELDS:
            raise _unexpected(f"field {name!r} of a file")
        field, read = _FIELDS[name]
        fields[field] = read(inner)
    return File(**fields)


def _stored_assertions(value: object) -> Assertions:
    entries: dict[AssertionKey, dict[str, str]] = {}
    for row in _list(value, "Assertions"):
        fields = fold(dict(_object(row, "an assertion")))
        key = fold(dict(_object(fields.get("key", _Object()), "Key")))
        subject = AssertionKey(_text(key.get("namespace")), _text(key.get("subject")))
        properties = entries.setdefault(subject, {})
        name, text = _text(key.get("object")), _text(fields.get("value"))
        if properties.setdefault(name, text) != text:
            cause = f"conflict for {subject}: {name} ({properties[name]} -> {text})"
            raise ReflowError(Kind.PRECONDITION, _OP, cause=cause)
    return Assertions(entries) if entries else NO_ASSERTIONS
