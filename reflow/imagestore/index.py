"""Names and digests of the images that are kept, and which image each stands for."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable

from reflow.imagestore import lock
from reflow.imagestore.job import Job

_VERSION = 1
_FILE = "index.json"
_LOCK = "index.lock"
_PARTS = ("names", "digests")

_Rows = dict[str, dict[str, str]]


class Index:
    """The file ``index.json``. Reading needs no lock: the file is replaced as a whole.

    A damaged file counts as empty: what it said is learnt again when images are asked for.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = f"{root}/{_FILE}"

    def id_of_digest(self, digest: str) -> str | None:
        """The id of the image that the digest of a manifest or an index, or a daemon's id, stands for."""
        return self._read()["digests"].get(digest)

    def id_of_name(self, name: str) -> str | None:
        """The id of the image that a complete name with a tag stood for the last time."""
        return self._read()["names"].get(name)

    def names(self) -> dict[str, list[str]]:
        """Id -> names, sorted."""
        found: dict[str, list[str]] = {}
        for name, id in sorted(self._read()["names"].items()):
            found.setdefault(id, []).append(name)
        return found

    def record(self, job: Job, id: str, names: Iterable[str], digests: Iterable[str]) -> None:
        """Let names and digests stand for an image. Raises OSError."""

        def change(rows: _Rows) -> None:
            rows["names"].update(dict.fromkeys(names, id))
            rows["digests"].update({each: id for each in digests if each and each != id})

        self._change(job, change)

    def forget(self, job: Job, id: str) -> None:
        """Remove all names and digests of an image. Raises OSError."""

        def change(rows: _Rows) -> None:
            for part in _PARTS:
                rows[part] = {name: value for name, value in rows[part].items() if value != id}

        self._change(job, change)

    def _change(self, job: Job, change: Callable[[_Rows], None]) -> None:
        """Change the file, when that makes a difference."""
        rows = self._read()
        before = _text(rows)
        change(rows)
        if _text(rows) == before:
            return
        held = lock.wait(f"{self._root}/{_LOCK}", job, "waiting for the image store")
        try:
            rows = self._read()
            change(rows)
            self._write(_text(rows))
        finally:
            held.release()

    def _write(self, text: str) -> None:
        part = f"{self._path}.{os.getpid()}"
        try:
            with open(part, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            os.replace(part, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise

    def _read(self) -> _Rows:
        try:
            with open(self._path, encoding="utf-8", errors="surrogateescape") as file:
                found = json.load(file)
        except (OSError, ValueError):
            found = None
        rows = found if isinstance(found, dict) else {}
        return {part: _texts(rows.get(part)) for part in _PARTS}


def _texts(part: object) -> dict[str, str]:
    if not isinstance(part, dict):
        return {}
    return {name: value for name, value in part.items() if isinstance(value, str)}


def _text(rows: _Rows) -> str:
    return json.dumps({"version": _VERSION, **rows}, sort_keys=True, indent=1) + "\n"
