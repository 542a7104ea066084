"""Ground for tests of executors: a real repository, real inputs, and configurations of execs in short."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.execconfig import ExecConfig, ExecResult, InputArg, OutputArg
from reflow.core.fileset import File, Fileset
from reflow.executor.local import LocalExecutor
from reflow.executor.localexec import LocalExec
from reflow.flow.data import LocalFile
from reflow.repository.filerepo import FileRepository
from reflow.repository.inputs import LocalInputs
from reflow.repository.localstate import local_state

OUT = OutputArg(0)

IMAGES = Path(tempfile.gettempdir()) / f"reflow-test-images-{os.getuid()}"
"""Images that sandboxes of tests share: unpacking one takes seconds."""


class Ground:
    """One localdir with its repository, and an executor on it."""

    def __init__(self, base: Path, name: str, *, localdir: Path | None = None, **options: Any) -> None:
        self.base = base
        self.repository = FileRepository(str(base / "objects"))
        self.inputs = LocalInputs(local_state(str(base / "state.db")), self.repository)
        self.localdir = localdir or base / "local"
        self.name = name
        self.executor = self.new_executor(**options)

    def new_executor(self, **options: Any) -> LocalExecutor:
        """Another executor on the same localdir, as a second run would have it."""
        if self.name == "docker":
            from reflow.executor.docker import DockerExecutor

            return DockerExecutor(self.localdir, self.repository, self.inputs, **options)
        if self.name == "sandbox":
            from reflow.executor.sandbox import SandboxExecutor
            from reflow.imagestore.store import ImageStore

            options.setdefault("images", ImageStore(str(IMAGES)))
            return SandboxExecutor(self.localdir, self.repository, self.inputs, **options)
        from reflow.executor.process import ProcessExecutor

        return ProcessExecutor(self.localdir, self.repository, self.inputs, **options)

    async def object(self, data: bytes) -> File:
        """An object of the repository."""
        (digest,) = await self.repository.put_bytes_many([data])
        return File(digest, len(data))

    async def users(self, name: str, data: bytes) -> File:
        """A file of the user's, hashed but not in the repository."""
        path = self.base / "user" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        file = LocalFile(str(path), os.stat(path))
        await self.inputs.hash_all([file])
        return File(file.digest, len(data))

    async def run(self, config: ExecConfig, id: Digest | None = None) -> ExecResult:
        """Run an exec to its end."""
        running = await self.put(config, id)
        await asyncio.wait_for(running.wait(), 60)
        return await running.result()

    async def put(self, config: ExecConfig, id: Digest | None = None) -> LocalExec:
        """Start an exec."""
        return await self.executor.put(id or Digest.random(), config)

    async def read(self, file: File) -> bytes:
        """The bytes of a resolved file."""
        assert file.id is not None
        data = (await self.repository.read_many([file.id]))[file.id]
        assert isinstance(data, bytes), data
        return data

    async def output(self, cmd: str, *args: Any, **more: Any) -> bytes:
        """What a command with one output file, its last argument, writes to it."""
        result = await self.run(command(cmd, *args, **more))
        assert result.error is None, result.error
        return await self.read(member(result).file())

    def left(self) -> list[str]:
        """Names of exec directories that are there."""
        return sorted(each.name for each in (self.localdir / "execs").iterdir())


@asynccontextmanager
async def ready(base: Path, name: str) -> AsyncIterator[Ground]:
    """A ground whose executor is started, and closed at the end."""
    ground = Ground(base, name)
    await ground.executor.start()
    try:
        yield ground
    finally:
        await ground.executor.close(kill=True)


class Door:
    """Room that is there when it is opened, and what was done with it."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.opened = asyncio.Event()
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.done: list[str] = []
        self.is_held = False
        if is_open:
            self.opened.set()

    async def enter(self) -> None:
        self.done.append("ask")
        self.asked.set()
        await self.opened.wait()
        self.done.append("enter")
        self.is_held = True

    def leave(self) -> None:
        self.done.append("leave")
        self.is_held = False
        self.left.set()


def command(cmd: str, *args: Any, dirs: tuple[bool, ...] = (False,), **more: Any) -> ExecConfig:
    """An exec; arguments are files, filesets or outputs."""
    values: dict[str, Any] = {"image": "ubuntu", "output_names": tuple(f"out{k}" for k in range(len(dirs)))}
    values.update(more)
    return ExecConfig(
        type="exec", cmd=cmd, args=tuple([_arg(each) for each in args]), output_is_dir=dirs, **values
    )


def member(result: ExecResult, index: int = 0) -> Fileset:
    """One output of an exec."""
    assert result.fileset.members is not None
    return result.fileset.members[index]


def error_of(result: object) -> ReflowError:
    """The error of a failed exec."""
    error = getattr(result, "error", None)
    assert isinstance(error, ReflowError)
    return error


def _arg(value: Any) -> InputArg | OutputArg:
    if isinstance(value, OutputArg):
        return value
    return InputArg(Fileset.of_file(value) if isinstance(value, File) else value)
