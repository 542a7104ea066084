"""Failures of the file system in the words of the original."""

from __future__ import annotations


def describe(err: OSError, path: str) -> str:
    """``open PATH: no such file or directory``; a directory was opened and could not be read."""
    step = "read" if isinstance(err, IsADirectoryError) else "open"
    text = err.strerror or str(err)
    return f"{step} {path}: {text[:1].lower()}{text[1:]}"
