"""The signature of a local file: what tells one state of it from another without reading it."""

from __future__ import annotations

import os
from typing import NamedTuple


class Signature(NamedTuple):
    """Identity, size and times (nanoseconds) of a file. Contents do not change without it, as a rule."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """The signature in a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
