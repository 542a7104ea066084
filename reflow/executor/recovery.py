"""What dead runs have left in a local directory: results, execs that have ended, and some that run.

An exec that was started survives its run, and how it ends is recorded. The next executor finds its directory
by the exec's work: locked while it runs, by what sees it end, and with its exit status when it has ended.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterator

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.execconfig import ExecConfig, InputArg
from reflow.core.fileset import Fileset
from reflow.disk.blocking import Blocking
from reflow.executor import execdir, manifest, proctree
from reflow.executor.execdir import FAILED, ExecDir
from reflow.executor.journal import Journal, Peers, is_stored
from reflow.executor.layout import Layout
from reflow.executor.manifest import Manifest
from reflow.executor.staging import Staged
from reflow.pool import InputLocator

_KILL_S = 10.0
_KILL_PAUSE_S = 0.02


class Recovery:
    """Finds what there is for one executor. ``path_of`` tells where an object is.

    When ``is_wanted`` is false, nothing of it is used.
    """

    def __init__(self, layout: Layout, executor: str, path_of: Callable[[Digest], str]) -> None:
        self.is_wanted = True
        self._layout = layout
        self._executor = executor
        # Results of images are the same in containers and in sandboxes.
        self._sort = "process" if executor == "process" else "image"
        self._path_of = path_of
        self.journal = Journal(layout.localdir)
        self._peers = Peers(self.journal)

    def record(self, directory: ExecDir, value: Fileset) -> None:
        """Note a result, before its directory goes."""
        self.journal.append(f"{self._sort}:{directory.name}", value)

    def recorded(self, directory: ExecDir) -> Fileset | None:
        """The result of a directory's work, when another executor has noted it and all of it is stored."""
        if not self.is_wanted:
            return None
        value = self._peers.find(f"{self._sort}:{directory.name}")
        return value if value is not None and is_stored(value, self._path_of) else None

    def survivor(self, directory: ExecDir) -> Manifest | None:
        """What a dead run wrote down of the exec in its directory, if it can be gone on with."""
        if not self.is_wanted or not directory.is_used or directory.is_killed:
            return None
        return self._manifest(directory.path)

    def _manifest(self, path: str) -> Manifest | None:
        found = manifest.read(path)
        if found is None or (found.work, found.executor) != (os.path.basename(path), self._executor):
            return None
        if os.path.exists(f"{path}/{FAILED}"):
            return None
        return found if found.is_of_this_boot and found.are_inputs_unchanged else None

    def is_orphaned(self, path: str) -> bool:
        """Tell whether the run is dead whose exec runs in a locked directory."""
        tenant = execdir.tenant_of(path)
        return tenant is not None and not self._peers.is_alive(tenant.owner)

    def orphan(self, path: str) -> Manifest | None:
        """What a dead run wrote down of the exec that runs in a directory, if it can be gone on with."""
        return self._manifest(path) if self.is_wanted else None

    def is_worth_keeping(self, directory: ExecDir, running: Collection[str]) -> bool:
        """Tell whether an unlocked directory may serve a run; ``running`` are those where something lives."""
        if self.survivor(directory) is None:
            return False
        return directory.path in running or execdir.ending_of(directory.path) is not None

    def is_alone(self) -> bool:
        """Tell whether no other executor lives here, so that what nobody has is wanted by nobody."""
        return self._peers.are_gone()

    def settle(self) -> None:
        """Delete what was noted, unless some other executor may ask for it: then that one will do it."""
        if self.is_alone():
            self.journal.forget()
            self._peers.remove_dead()


def staged_again(found: Manifest, config: ExecConfig, directory: str, locator: InputLocator) -> Staged:
    """What was staged for an exec that survived. Blocks."""
    upper = f"{directory}/upper"
    staged = Staged(
        command=found.command,
        foreign={place: path for place, (path, _) in found.foreign.items()},
        upper=upper if os.path.isdir(upper) else "",
        lowers=list(found.lowers),
    )
    for digest in _inputs(config):
        try:
            staged.sources[digest] = locator.locate(digest)[0]
        except ReflowError:  # it is not needed any more
            continue
    return staged


def _inputs(config: ExecConfig) -> Iterator[Digest]:
    for arg in config.args:
        if isinstance(arg, InputArg):
            yield from (file.id for file in arg.fileset.all_files() if file.id is not None)


async def end_survivors(paths: Collection[str], files: Blocking) -> None:
    """Kill what dead runs have left running in these directories, and remove them."""
    left = list(paths)
    deadline_s = asyncio.get_running_loop().time() + _KILL_S
    while left and asyncio.get_running_loop().time() < deadline_s:
        await files(kill_in, left)
        await asyncio.sleep(_KILL_PAUSE_S)
        for path in list(left):
            directory = execdir.adopt(path)
            if directory is not None:
                await files(directory.remove)
            if not await files(os.path.exists, path):
                left.remove(path)


def kill_in(paths: Collection[str]) -> None:
    """Kill what runs in these directories. Blocks."""
    proctree.kill_marked(paths)
    proctree.kill_with_words([f"{path}/return" for path in paths])
