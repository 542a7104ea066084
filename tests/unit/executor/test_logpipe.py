"""Output of commands, from a pipe to its file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from reflow.executor.logfile import LogFiles
from reflow.executor.logpipe import LogPipe


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/logs/x/out"


def pipe_to(path: str) -> LogPipe:
    return LogPipe(LogFiles(str(Path(path).parents[2])), path)


async def test_what_is_written_is_in_the_file(path: str) -> None:
    pipe = pipe_to(path)
    os.write(pipe.writer_fd, b"a\n")
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if Path(path).exists():
            break
    assert Path(path).read_bytes() == b"a\n"
    os.write(pipe.writer_fd, b"b\n")
    pipe.handed_over()
    await pipe.wait()
    assert Path(path).read_bytes() == b"a\nb\n"


async def test_no_output_makes_no_file_and_removes_that_of_an_earlier_try(path: str) -> None:
    Path(path).parent.mkdir(parents=True)
    Path(path).write_text("earlier")
    pipe = pipe_to(path)
    pipe.handed_over()
    await pipe.wait()
    assert not Path(path).exists()


async def test_a_file_that_cannot_be_written_is_an_error_and_nobody_hangs(path: str) -> None:
    pipe = pipe_to(path)
    Path(path).parents[1].write_text("a file where a directory is to be")
    for _ in range(40):
        os.write(pipe.writer_fd, b"x" * 4096)
        await asyncio.sleep(0.01)
    pipe.handed_over()
    with pytest.raises(OSError, match="Not a directory"):
        await asyncio.wait_for(pipe.wait(), 10)


async def test_closing_gives_everything_back(path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pipe = pipe_to(path)
    os.write(pipe.writer_fd, b"x")
    await asyncio.sleep(0.01)
    pipe.close()
    pipe.close()
    await pipe.wait()
    assert len(os.listdir("/proc/self/fd")) == before
