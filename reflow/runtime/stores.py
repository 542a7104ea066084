"""What a run reads and writes, opened from the configuration: objects, index, record, local inputs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from reflow.core.assertion import AssertionKey, Assertions
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.execconfig import ExecConfig, InputArg
from reflow.core.fileset import File, Fileset
from reflow.disk.database import Database
from reflow.flow.data import INLINE_LIMIT_BYTES, LocalFile
from reflow.repository.filerepo import FileRepository
from reflow.repository.gather import gather_all
from reflow.repository.hashing import HashProgress
from reflow.repository.inputs import LocalInputs
from reflow.repository.localstate import local_state
from reflow.runtime.config import Config, not_supported
from reflow.runtime.home import home
from reflow.runtime.wiring import open_assoc, open_bucket, open_repository, open_taskdb, without_sharing

if TYPE_CHECKING:
    from reflow.repository.layered import LayeredRepository
    from reflow.repository.references import References

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
            self.check_contents(digest)

    @property
    def epoch(self) -> int | None:
        """None when each exec's inputs are to be hashed: then what others have linked does not count."""
        return None if self._checks_contents else super().epoch

    def _adopt_met(self) -> bool:
        """Take files into account that were met, and hashed by the evaluator, since the last time."""
        fresh = [file for file in self._local_files()[self._known :] if file.is_hashed]
        self.adopt(fresh)
        return bool(fresh)


def is_local_url(url: str) -> bool:
    """Whether a URL names files that this machine reaches by a path."""
    return url.startswith("localfile://")


class Stores:
    """The stores of one run. ``is_open`` says whether all were found to be usable."""

    def __init__(
        self, config: Config, local_files: Callable[[], Sequence[LocalFile]], *, checks_contents: bool
    ) -> None:
        repository = open_repository(config)
        local = getattr(repository, "local", repository)
        if not isinstance(local, FileRepository):
            raise not_supported(f"execs on this machine with the repository {repository.url}")
        self._config = config
        self._local = local
        self.repository: FileRepository | LayeredRepository = cast(
            "FileRepository | LayeredRepository", repository
        )
        self._references: References | None = None
        self.is_open = False
        self.assoc = open_assoc(config)
        self.taskdb = open_taskdb(config)
        self.state = local_state(os.path.join(home(), LOCAL_STATE))
        self.inputs = RunInputs(self.state, local, local_files, checks_contents=checks_contents)

    @property
    def references(self) -> References:
        """What finds and moves things that programs name by URL; imported on use."""
        if self._references is None:
            from reflow.repository.references import References

            self._references = References(open_bucket, self.repository, self.inputs)
        return self._references

    async def snapshot(self, url: str) -> Fileset:
        """References to what is at a URL. Raises NOT_SUPPORTED for what must be interned at once."""
        if is_local_url(url):
            raise ReflowError(Kind.NOT_SUPPORTED, cause="no references into local file systems")
        return await self.references.snapshot(url)

    async def assertions(self, key: AssertionKey) -> Assertions:
        """What is true now of what was asserted. Raises ReflowError when nobody can tell."""
        return await self.references.assertions(key)

    @property
    def is_shared(self) -> bool:
        """Whether objects are kept for others too, as far as is known now."""
        repository = self.repository
        return (
            not isinstance(repository, FileRepository) and repository.may_upload and not repository.is_private
        )

    async def keep_files(self, files: Sequence[LocalFile]) -> None:
        """Upload hashed local inputs, but for those too large for the original's. Raises ReflowError."""
        assert not isinstance(self.repository, FileRepository)
        small = {file.digest: file for file in files if file.size <= INLINE_LIMIT_BYTES}
        paths = {digest: file.path for digest, file in small.items()}
        await self.repository.share(paths, {digest: file.size for digest, file in small.items()})

    async def staged(self, config: ExecConfig) -> ExecConfig:
        """The same exec with contents for references, and what it needs on this machine."""
        if not all(arg.fileset.is_resolved for arg in config.args if isinstance(arg, InputArg)):
            args = [
                InputArg(await self.references.resolve(arg.fileset)) if isinstance(arg, InputArg) else arg
                for arg in config.args
            ]
            config = replace(config, args=tuple(args))
        if not isinstance(self.repository, FileRepository):
            found = [arg.fileset for arg in config.args if isinstance(arg, InputArg)]
            await self.fetch([file for fileset in found for file in fileset.all_files()])
        return config

    async def fetch(self, files: Iterable[File]) -> None:
        """Bring objects that only the shared repository has to this machine."""
        if not isinstance(self.repository, FileRepository):
            await self.repository.fetch(files)

    def write_nothing(self) -> None:
        """Upload nothing: it is only to be found out what a run would do."""
        if not isinstance(self.repository, FileRepository):
            self.repository.may_upload = False

    async def keep_private(self) -> None:
        """Keep entries, rows and objects on this machine: what follows is not for others."""
        if not isinstance(self.repository, FileRepository):
            self.repository.keep_private()
        config = without_sharing(self._config)
        if config.provider("assoc") != self._config.provider("assoc"):
            assert self.assoc is not None
            await self.assoc.close()
            self.assoc = open_assoc(config)
            assert self.assoc is not None
            await self.assoc.open()
        if config.provider("taskdb") != self._config.provider("taskdb"):
            assert self.taskdb is not None
            await self.taskdb.close()
            self.taskdb = open_taskdb(config)
            assert self.taskdb is not None
            await self.taskdb.open()

    async def open(self) -> None:
        """Open all now: what is damaged, newer or cannot be reached ends a run before it begins."""
        opening = [store.open() for store in (self.assoc, self.taskdb) if store is not None]
        if not isinstance(self.repository, FileRepository):
            opening.append(self.repository.shared.open())
        await gather_all(opening)
        self.is_open = True

    async def close(self) -> None:
        """Make everything durable."""
        if self.assoc is not None:
            await self.assoc.close()
        if self.taskdb is not None:
            with contextlib.suppress(ReflowError):  # `reflow.runtime.record` has said so before
                await self.taskdb.close()
        await self.repository.close()
        self.state.close()
