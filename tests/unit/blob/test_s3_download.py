"""Downloads in parts: one that fails leaves nothing, and no thread that still writes."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from reflow.blob.boto import BotoDataPath
from reflow.blob.s3 import Cuts, S3Bucket
from reflow.blob.s3control import Control
from reflow.blob.s3part import READ_PART, READ_WHOLE
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.disk.blocking import Blocking

DATA = bytes(range(256)) * ((READ_WHOLE + 3 * READ_PART) // 256)


class Slow(io.BytesIO):
    """A body that waits before each piece until it may go on."""

    def __init__(self, data: bytes, gate: threading.Event) -> None:
        super().__init__(data)
        self._gate = gate

    def read(self, size: int | None = -1) -> bytes:
        assert self._gate.wait(30)
        return super().read(size)


class Client:
    """A client of one object, whose second part cannot be had while ``is_broken``."""

    def __init__(self, *, is_broken: bool) -> None:
        self._is_broken = is_broken
        self.gate = threading.Event()
        if not is_broken:
            self.gate.set()

    def head_object(self, **arguments: Any) -> dict[str, Any]:
        etag = f'"{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}"'
        return {"ContentLength": len(DATA), "ETag": etag, "ResponseMetadata": {"HTTPHeaders": {}}}

    def get_object(self, **arguments: Any) -> dict[str, Any]:
        first, last = (int(text) for text in arguments["Range"].removeprefix("bytes=").split("-"))
        if self._is_broken and first == READ_PART:
            threading.Timer(0.05, self.gate.set).start()
            raise ReflowError(Kind.NOT_ALLOWED, "s3.get_object", "s3://b/k")
        part = DATA[first : last + 1]
        return {
            "Body": Slow(part, self.gate),
            "ContentLength": len(part),
            "ResponseMetadata": {"HTTPHeaders": {}},
        }


def bucket(client: Client) -> S3Bucket:
    blocking = Blocking("s3-test", 8)
    return S3Bucket(Control("b", lambda: client, blocking), BotoDataPath(client, "b", blocking), Cuts())


async def test_an_object_is_put_together(tmp_path: Path) -> None:
    path = tmp_path / "object"
    digest = await bucket(Client(is_broken=False)).download("k", str(path), size=len(DATA))
    assert digest == Digest.of(DATA)
    assert path.read_bytes() == DATA


async def test_a_part_that_fails_leaves_no_thread_that_writes(tmp_path: Path) -> None:
    path = tmp_path / "object"
    with pytest.raises(ReflowError):
        await bucket(Client(is_broken=True)).download("k", str(path), size=len(DATA))
    assert not path.exists()
    # Whoever opens a file now may get the number that the download had.
    others = [os.open(tmp_path / f"other{number}", os.O_CREAT | os.O_RDWR) for number in range(8)]
    assert [os.fstat(each).st_size for each in others] == [0] * 8
    assert not any(thread.name.startswith("s3-test") and _is_busy(thread) for thread in threading.enumerate())
    for each in others:
        os.close(each)


def _is_busy(thread: threading.Thread) -> bool:
    """Whether a thread is in the midst of a part."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "_read_into":
            return True
        frame = frame.f_back
    return False


async def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"mine")
    with pytest.raises(ReflowError):
        await bucket(Client(is_broken=False)).download("k", str(path), size=len(DATA))
    assert path.read_bytes() == b"mine"
