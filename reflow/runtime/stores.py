"""What a run reads and writes, opened from the configuration: objects, index, record, local inputs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.disk.database import Database
from reflow.flow.data import LocalFile
from reflow.repository.filerepo import FileRepository
from reflow.repository.hashing import HashProgress
from reflow.repository.inputs import LocalInputs
from reflow.repository.localstate import local_state
from reflow.repository.objectfile import hash_file
from reflow.runtime.config import Config, not_supported
from reflow.runtime.home import home
from reflow.runtime.wiring import open_assoc, open_repository, open_taskdb

LOCAL_STATE = "local.db"


class RunInputs(LocalInputs):
    """Local inputs of a run, those included that the program meets only while it is evaluated.

    ``local_files`` answers with all that were met so far, in order. With ``checks_contents`` an input that an
    exec used is hashed again afterwards; otherwise its size and times are trusted.
    """

    def __init__(
        self,
        state: Database,
        repository: FileRepository,
        local_files: Callable[[], Sequence[LocalFile]],
        *,
        checks_contents: bool,
    ) -> None:
        super().__init__(state, repository)
        self._local_files = local_files
        self._checks_contents = checks_contents
        self._known = 0
        self._hashing = asyncio.Lock()

    async def hash_known(self, progress: HashProgress | None = None) -> int:
        """Hash what the program has met so far; return how many files. Raises ReflowError."""
        files = self._local_files()
        if files:
            await self.hash_all(files, progress)
        self._known = len(files)
        return len(files)

    async def hash_files(self, files: Sequence[LocalFile]) -> None:
        """Hash files that were met later; one that several runs wait for is read once. Raises ReflowError."""
        async with self._hashing:
            unknown = [file for file in files if not file.is_hashed]
            if unknown:
                await self.hash_all(unknown)

    def locate(self, digest: Digest) -> tuple[str, bool]:
        """Return a path with these contents, and whether it is a user's own file. Raises NOT_EXIST."""
        try:
            return super().locate(digest)
        except ReflowError as err:
            if kind_of(err) is not Kind.NOT_EXIST or not self._adopt_met():
                raise
        return super().locate(digest)

    def check_unchanged(self, digest: Digest) -> None:
        """Check what `locate` found. INVALID names a user's file, INTEGRITY an altered object."""
        super().check_unchanged(digest)
        if self._checks_contents:
            path, _ = self.locate(digest)
            if hash_file(path).digest != digest:
                cause = (
                    "its contents changed while a command had it as input, though its size and time did not"
                )
                raise ReflowError(Kind.INTEGRITY, "inputs", path, cause=cause)

    def _adopt_met(self) -> bool:
        """Take files into account that were met, and hashed by the evaluator, since the last time."""
        fresh = [file for file in self._local_files()[self._known :] if file.is_hashed]
        self.adopt(fresh)
        return bool(fresh)


class Stores:
    """The stores of one run."""

    def __init__(
        self, config: Config, local_files: Callable[[], Sequence[LocalFile]], *, checks_contents: bool
    ) -> None:
        repository = open_repository(config)
        if not isinstance(repository, FileRepository):
            raise not_supported(f"execs on this machine with the repository {repository.url}")
        self.repository = repository
        self.assoc = open_assoc(config)
        self.taskdb = open_taskdb(config)
        self.state = local_state(os.path.join(home(), LOCAL_STATE))
        self.inputs = RunInputs(self.state, repository, local_files, checks_contents=checks_contents)

    async def open(self) -> None:
        """Open index and record now: one that is damaged or newer ends a run before it begins."""
        if self.assoc is not None:
            await self.assoc.open()
        if self.taskdb is not None:
            await self.taskdb.open()

    async def close(self) -> None:
        """Make everything durable."""
        if self.assoc is not None:
            await self.assoc.close()
        if self.taskdb is not None:
            with contextlib.suppress(ReflowError):  # `reflow.runtime.record` has said so before
                await self.taskdb.close()
        await self.repository.close()
        self.state.close()
