"""What a setup verb has begun to make and not finished: so that the next call finishes it.

A bucket takes several calls. Without this file, one that we made and left half-way could not be told from one
of somebody's own, which is never altered.
"""

from __future__ import annotations

import json
import os

from reflow.runtime.home import home

_NAME = "setup-pending.json"


def _path() -> str:
    return os.path.join(home(), _NAME)


def pending() -> set[str]:
    """Names of buckets that were begun; none when the file cannot be made out."""
    try:
        with open(_path(), encoding="utf-8") as stream:
            names = json.load(stream)
    except (FileNotFoundError, ValueError):
        return set()
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def begin(bucket: str) -> None:
    """Note that a bucket is about to be made. Raises OSError."""
    _write(pending() | {bucket})


def end(bucket: str) -> None:
    """Note that a bucket is finished. Raises OSError."""
    if bucket in pending():
        _write(pending() - {bucket})


def _write(names: set[str]) -> None:
    if not names:
        os.unlink(_path())
        return
    os.makedirs(home(), exist_ok=True)
    scratch = f"{_path()}.{os.getpid()}"
    with open(scratch, "w", encoding="utf-8") as stream:
        json.dump(sorted(names), stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(scratch, _path())
