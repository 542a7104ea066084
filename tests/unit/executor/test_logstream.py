"""Output of commands, from a pipe to its file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.executor.logstream import LogStream


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs/x/out"


@pytest.fixture
def stream(path: Path) -> Iterator[LogStream]:
    made = LogStream(os.fsencode(path))
    yield made
    made.close()


def test_what_is_written_is_in_the_file(path: Path, stream: LogStream) -> None:
    assert stream.take() == 0
    os.write(stream.writer_fd, b"a\n")
    assert stream.take() == 2
    assert path.read_bytes() == b"a\n"
    os.write(stream.writer_fd, b"b\n")
    stream.handed_over()
    stream.end()
    assert path.read_bytes() == b"a\nb\n"


def test_it_tells_that_nobody_can_write_any_more(stream: LogStream) -> None:
    os.write(stream.writer_fd, b"a\n")
    stream.handed_over()
    assert (stream.take(), stream.take()) == (2, -1)


def test_no_output_makes_no_file(path: Path, stream: LogStream) -> None:
    stream.handed_over()
    stream.end()
    assert not path.parent.exists()


def test_the_end_does_not_wait_for_who_could_still_write(path: Path, stream: LogStream) -> None:
    escaped_fd = os.dup(stream.writer_fd)
    os.write(escaped_fd, b"x" * 4000)
    stream.end()
    assert path.stat().st_size == 4000
    with pytest.raises(BrokenPipeError):
        os.write(escaped_fd, b"late")
    os.close(escaped_fd)


def test_a_file_that_cannot_be_written_is_an_error_and_nobody_hangs(path: Path, stream: LogStream) -> None:
    path.parents[1].write_text("a file where a directory is to be")
    for _ in range(40):
        os.write(stream.writer_fd, b"x" * 4096)
        assert stream.take() == 4096
    assert stream.error is not None
    assert stream.error.errno == errno.ENOTDIR


def test_closing_gives_everything_back(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    stream = LogStream(os.fsencode(path))
    os.write(stream.writer_fd, b"a\n")
    stream.take()
    stream.close()
    stream.close()
    assert len(os.listdir("/proc/self/fd")) == before
