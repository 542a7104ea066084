"""What execs left behind on this machine: directories of failed ones, and files with their output."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from reflow.executor.execdir import FAILED, adopt
from reflow.runtime.livework import exec_dirs


class LeftoversCollected(NamedTuple):
    """How many directories of failed execs, and files with the output of execs, and their bytes."""

    directories: int
    outputs: int
    size: int


def collect_leftovers(directory: str, before_s: float, *, dry_run: bool) -> LeftoversCollected:
    """Remove from a local directory what execs left that ended before a time. Blocks."""
    directories = outputs = size = 0
    for each in exec_dirs(directory):
        if not each.is_running and _changed_s(f"{each.path}/{FAILED}") < before_s:
            directories += 1
            size += _tree_bytes(each.path)
            if not dry_run and (locked := adopt(each.path)) is not None:
                locked.remove()
    for place, _, names in os.walk(f"{directory}/logs"):
        for name in names:
            path = f"{place}/{name}"
            if _changed_s(path) < before_s:
                outputs += 1
                size += os.lstat(path).st_size
                if not dry_run:
                    os.unlink(path)
    return LeftoversCollected(directories, outputs, size)


def _changed_s(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return time.time()


def _tree_bytes(path: str) -> int:
    return sum([os.lstat(f"{place}/{name}").st_size for place, _, names in os.walk(path) for name in names])
