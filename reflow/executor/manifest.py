"""What is written down in an exec's directory before it starts, for the run that comes after a killed one.

The names are those of the original's manifests where it has such a field. Pid and exit status change while
it runs: they are in the lock's file (`execdir`).

It is written in one piece, in the place of that of the exec that had the directory before, and only then the
command starts. So whoever is killed while it is written leaves a directory where nothing has run; a manifest
that cannot be read, or is that of other work, is none, and what it lies beside is removed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from reflow.core.digest import Digest
from reflow.core.execconfig import ExecConfig
from reflow.executor.execdir import MANIFEST

_CREATED = 2
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_BOOT_ID = "/proc/sys/kernel/random/boot_id"

Signature = tuple[int, int, int, int, int]
"""Device, inode, size and times of a file: it has not changed while these are the same."""


class Manifest(NamedTuple):
    """An exec that was about to start. ``work`` is what its directory is called.

    ``boot`` tells when this machine started: what was recorded before that may be more than the disk has.
    ``foreign`` are the user's own files among its inputs, as they were, ``lowers`` the layers below its
    ``arg`` (`staging.Staged`). ``created_s`` is in seconds since the epoch.
    """

    id: str
    work: str
    executor: str
    command: str
    created_s: float
    resources: Mapping[str, float]
    foreign: Mapping[str, tuple[str, Signature]]
    boot: str
    lowers: tuple[str, ...] = ()

    @property
    def is_of_this_boot(self) -> bool:
        """Whether the machine has been up since."""
        return self.boot == boot_id()

    @property
    def are_inputs_unchanged(self) -> bool:
        """Whether the user's own files are as they were."""
        return all(signature(path) == was for path, was in self.foreign.values())


def manifest_of(
    id: Digest,
    work: str,
    executor: str,
    config: ExecConfig,
    command: str,
    foreign: Mapping[str, str],
    lowers: Sequence[str] = (),
) -> Manifest:
    """The manifest of an exec whose files are in place, and that starts now."""
    signed = {place: (path, signature(path)) for place, path in foreign.items()}
    resources = dict(config.resources)
    return Manifest(
        id.hex(), work, executor, command, time.time(), resources, signed, boot_id(), tuple(lowers)
    )


def write(directory: str, manifest: Manifest, config: ExecConfig) -> None:
    """Write it down. Raises OSError."""
    created = datetime.fromtimestamp(manifest.created_s, UTC).isoformat()
    row = {
        "Type": 0,
        "State": _CREATED,
        "ID": f"sha256:{manifest.id}",
        "Created": created.replace("+00:00", "Z"),
        "Config": {
            "Type": config.type,
            "Ident": config.ident,
            "Image": config.image,
            "Cmd": manifest.command,
        },
        "Resources": dict(manifest.resources),
        "Work": manifest.work,
        "Executor": manifest.executor,
        "Boot": manifest.boot,
        "Foreign": {place: [path, *was] for place, (path, was) in manifest.foreign.items()},
        "Lowers": list(manifest.lowers),
    }
    # In ASCII: paths may have bytes that are no text.
    data = json.dumps(row).encode("ascii")
    fd = os.open(f"{directory}/{MANIFEST}", _FLAGS, 0o644)
    try:
        os.ftruncate(fd, os.write(fd, data))
    finally:
        os.close(fd)


def read(directory: str) -> Manifest | None:
    """What was written down; None when nothing was, or it is damaged."""
    try:
        with open(f"{directory}/{MANIFEST}", encoding="ascii") as file:
            return _manifest(json.load(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _manifest(row: Any) -> Manifest:
    foreign = {
        str(place): (str(path), _signature([int(number) for number in numbers]))
        for place, (path, *numbers) in row["Foreign"].items()
    }
    return Manifest(
        id=Digest.parse(row["ID"]).hex(),
        work=str(row["Work"]),
        executor=str(row["Executor"]),
        command=str(row["Config"]["Cmd"]),
        created_s=datetime.fromisoformat(row["Created"]).timestamp(),
        resources={str(name): float(amount) for name, amount in row["Resources"].items()},
        foreign=foreign,
        boot=str(row["Boot"]),
        lowers=tuple([str(path) for path in row.get("Lowers", ())]),
    )


def _signature(numbers: list[int]) -> Signature:
    device, inode, size, mtime, ctime = numbers
    return device, inode, size, mtime, ctime


def signature(path: str) -> Signature:
    """A file's signature; zeros when it is gone."""
    try:
        info = os.stat(path)
    except OSError:
        return 0, 0, 0, 0, 0
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


@cache
def boot_id() -> str:
    """What tells this start of the machine from others; nothing where that cannot be told."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
