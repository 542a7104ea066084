"""Which keys there can be."""

from __future__ import annotations

from reflow.core.errors import Kind, ReflowError

LONGEST = 1024
"""Bytes of UTF-8, as S3 has it."""


def check_key(url: str, key: str) -> None:
    """Raise INVALID for what can be no object's key."""
    if trouble := _trouble(key) or ("" if key else "the key is empty"):
        raise ReflowError(Kind.INVALID, "blob", printable(url), cause=trouble)


def check_prefix(url: str, prefix: str) -> None:
    """Raise INVALID for what can be no prefix of keys."""
    if trouble := _trouble(prefix):
        raise ReflowError(Kind.INVALID, "blob", printable(url), cause=trouble)


def _trouble(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "the key has bytes that are no UTF-8; keys of objects are UTF-8"
    return f"the key has {size} bytes, want at most {LONGEST}" if size > LONGEST else ""


def printable(text: str) -> str:
    """The text with what stands for bytes that are no UTF-8 replaced."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
