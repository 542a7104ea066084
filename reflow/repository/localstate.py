"""What Reflow remembers about files of this machine that are not its own: digests, and what it placed.

``hashed``: digests of user's files, by device and inode. ``placed``: what ``run -out`` made, by path.
Everything here can be forgotten without harm to results.
"""

from __future__ import annotations

from reflow.disk.database import Database, Schema

SCHEMA = Schema(
    name="local state",
    application_id=0x52464C53,
    version=1,
    create=(
        """CREATE TABLE hashed (
            device INTEGER NOT NULL,
            inode INTEGER NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL,
            file_digest BLOB NOT NULL,
            data_digest BLOB NOT NULL,
            PRIMARY KEY (device, inode)
        ) WITHOUT ROWID""",
        """CREATE TABLE placed (
            path BLOB NOT NULL,
            device INTEGER NOT NULL,
            inode INTEGER NOT NULL,
            manifest BLOB NOT NULL,
            PRIMARY KEY (path, device, inode)
        ) WITHOUT ROWID""",
    ),
    loss="input files are hashed again; outputs that were placed before must be removed by hand",
)


def local_state(path: str) -> Database:
    """The file at ``path``; it is opened on first use."""
    return Database(path, SCHEMA)


def signed(number: int) -> int:
    """An unsigned 64-bit number as SQLite holds it."""
    return number - (1 << 64) if number >> 63 else number
