"""``reflow du``: how much disk Reflow's own files take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.cli.output import tabulate
from reflow.core.units import format_size
from reflow.runtime.home import home, runs_dir

_DETAILS = """\
Du tells how much disk Reflow takes on this machine: objects, the cache's index, the record of runs, files
of runs, directories of execs, unpacked images; and how much is free. Files that are linked more than
once are counted once."""


def run(app: App, arguments: Arguments) -> int:
    """Print sizes by place."""
    config = app.config
    seen: set[tuple[int, int]] = set()
    places = [
        ("objects", config.repository_dir),
        ("cache index", config.assoc_file),
        ("record of runs", config.taskdb_file),
        ("files of runs", runs_dir()),
        ("execs", config.local_dir),
        ("images", os.path.join(home(), "images")),
        ("all else", home()),
    ]
    total, lines = 0, []
    for label, path in places:
        size, count = _usage(path, seen)
        total += size
        files = "1 file" if count == 1 else f"{count} files"
        lines.append(f"{label}\t{format_size(size)}\t{files}\t{path}\n")
    lines.append(f"total\t{format_size(total)}\t\t\n")
    disk = _free(home())
    if disk is not None:
        free, size = disk
        lines.append(f"free\t{format_size(free)}\t{100 * free // max(size, 1)}% of {format_size(size)}\t\n")
    app.write(tabulate("".join(lines)))
    return 0


def _usage(path: str, seen: set[tuple[int, int]]) -> tuple[int, int]:
    """Bytes and number of files at and below a path that were not counted before."""
    total = count = 0
    for status in _files(path):
        identity = (status.st_dev, status.st_ino)
        if identity not in seen:
            seen.add(identity)
            total += status.st_blocks * 512
            count += 1
    return total, count


def _files(path: str) -> Iterator[os.stat_result]:
    stack = [path]
    for suffix in ("-wal", "-shm", "-journal"):
        if os.path.isfile(path + suffix):
            yield os.lstat(path + suffix)
    if os.path.isfile(path):
        yield os.lstat(path)
        return
    while stack:
        try:
            entries = list(os.scandir(stack.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False)
            except OSError:
                continue  # it is gone: another process tidies up


def _free(path: str) -> tuple[int, int] | None:
    """Free and total bytes of the disk that a path is, or will be, on."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None
    return usage.free, usage.total


COMMAND = Command("du", "du", _DETAILS, run)
