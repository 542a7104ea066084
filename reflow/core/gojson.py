"""JSON as Go's ``encoding/json`` writes and reads it: the form of everything on the wire.

Writing: ``<``, ``>``, ``&`` and two line separators are escaped, mappings of names are sorted by whoever
builds them, times are RFC 3339, absent digests are ``<zero>``. Reading: names match whatever their case.
Bytes that are no UTF-8 pass through by surrogateescape.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reflow.core.digest import Digest, digest_text

JsonObject = dict[str, Any]

ZERO_TIME = "0001-01-01T00:00:00Z"

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
_EXPONENT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?[0-9.]+e[+-]?[0-9]+)')
_MARK = f"constant {os.urandom(16).hex()} "
"""Nobody else can have written this."""

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def dump_json(value: object) -> bytes:
    """Encode as ``json.Marshal`` does, without a newline at the end."""
    text = _ENCODER.encode(value)
    if "e-" in text or "e+" in text:
        text = _EXPONENT.sub(lambda match: _number_text(match[1]) if match[1] else match[0], text)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text.encode("utf-8", "surrogateescape")


class Constant(dict[str, Any]):
    """An object that is written often and never changes: `dump_with_constants` makes its text once."""

    __slots__ = ("_text",)

    @property
    def text(self) -> bytes:
        """What `dump_json` makes of it."""
        try:
            return self._text
        except AttributeError:
            self._text: bytes = dump_json(self)
            return self._text


def dump_with_constants(value: JsonObject) -> bytes:
    """The same as `dump_json`, quicker where large parts are constants."""
    found: list[bytes] = []
    data = dump_json(_lifted(value, found))
    for number, text in enumerate(found):
        data = data.replace(f'"{_MARK}{number}."'.encode(), text, 1)
    return data


def _lifted(value: Any, found: list[bytes]) -> Any:
    """A value with marks in the places of constants."""
    if isinstance(value, Constant):
        found.append(value.text)
        return f"{_MARK}{len(found) - 1}."
    if isinstance(value, dict):
        return {name: _lifted(each, found) for name, each in value.items()}
    if isinstance(value, list):
        return [_lifted(each, found) for each in value]
    return value


def load_json(data: bytes) -> Any:
    """Decode. Raises ValueError, also for nesting too deep to read."""
    try:
        return json.loads(data.decode("utf-8", "surrogateescape"), strict=False)
    except RecursionError as err:
        raise ValueError("nested too deeply") from err


def number(value: float) -> float | int:
    """A number as JSON holds it: whole ones without a point."""
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def _number_text(text: str) -> str:
    """Python's text of a float with an exponent -> Go's: an exponent only from 1e21 and below 1e-6."""
    mantissa, exponent = text.removeprefix("-").split("e")
    sign = "-" if text.startswith("-") else ""
    whole, _, decimals = mantissa.partition(".")
    decimals = "" if decimals == "0" else decimals
    power = int(exponent)
    if 0 <= power < 21:
        return sign + whole + decimals.ljust(power, "0")
    if -6 <= power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{whole}{decimals}"
    point = "." if decimals else ""
    return f"{sign}{whole}{point}{decimals}e{'-' if power < 0 else '+'}{abs(power)}"


def time_text(time: datetime | None) -> str:
    """RFC 3339 with as many decimals as needed; the zero time for None."""
    if time is None:
        return ZERO_TIME
    text = time.isoformat()
    if time.microsecond:
        head, tail = text[:19], text[26:]
        text = f"{head}.{time.microsecond:06}".rstrip("0") + tail
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def parse_time(text: str | None) -> datetime | None:
    """Read RFC 3339 (to the microsecond); the zero time is None. Raises ValueError."""
    if not text:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    return None if time.year == 1 else time


def unix_time(seconds: float) -> datetime:
    """The time in UTC that is so many seconds after 1970 began."""
    return datetime.fromtimestamp(seconds, UTC)


def parse_digest(text: str | None) -> Digest | None:
    """Read a digest; the empty text and ``<zero>`` are None. Raises ValueError."""
    return Digest.parse(text) if text and text != "<zero>" else None


def fold(row: Mapping[str, Any] | None) -> JsonObject:
    """The same object with names in lower case: Go matches names so. Raises ValueError for no object."""
    if row is None:
        return {}
    if not isinstance(row, Mapping):
        raise ValueError(f"got {type(row).__name__}, want an object")
    return {name.lower(): value for name, value in row.items()}


__all__ = [
    "ZERO_TIME",
    "JsonObject",
    "digest_text",
    "dump_json",
    "fold",
    "load_json",
    "number",
    "parse_digest",
    "parse_time",
    "time_text",
    "unix_time",
]
