import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.disk import database as module
from reflow.disk.database import Database, Schema

V1 = Schema("notes", 77, 1, ("CREATE TABLE notes (text)",), "notes are lost")
V2 = Schema(
    "notes",
    77,
    2,
    ("CREATE TABLE notes (text, size)",),
    "notes are lost",
    {1: ("ALTER TABLE notes ADD COLUMN size", "UPDATE notes SET size = length(text)")},
)
OTHER = Schema("pictures", 78, 1, ("CREATE TABLE pictures (data)",), "pictures are lost")


def add(database: Database, text: str) -> None:
    database.call(lambda connection: connection.execute("INSERT INTO notes (text) VALUES (?)", (text,)))


def notes(database: Database) -> list[str]:
    return database.call(lambda connection: [row[0] for row in connection.execute("SELECT text FROM notes")])


def pragma(database: Database, name: str) -> object:
    return database.call(lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "notes.db")


def test_the_file_is_made_on_first_use(path: str) -> None:
    database = Database(path, V1)
    assert not os.path.exists(path)
    add(database, "a")
    assert (notes(database), pragma(database, "journal_mode")) == (["a"], "wal")
    database.close()
    assert notes(Database(path, V1)) == ["a"]


def test_an_older_file_is_backed_up_and_migrated(path: str) -> None:
    old = Database(path, V1)
    add(old, "abc")
    old.close()
    new = Database(path, V2)
    assert new.call(lambda connection: connection.execute("SELECT * FROM notes").fetchall()) == [("abc", 3)]
    assert pragma(new, "user_version") == 2
    backup = Database(f"{path}.v1.bak", V1)
    assert (notes(backup), pragma(backup, "user_version")) == (["abc"], 1)


def test_a_migration_that_fails_changes_nothing(path: str) -> None:
    old = Database(path, V1)
    add(old, "abc")
    old.close()
    broken = V2._replace(migrations={1: ("DELETE FROM notes", "nonsense")})
    with pytest.raises(ReflowError, match="nonsense"):
        notes(Database(path, broken))
    assert notes(Database(path, V1)) == ["abc"]


def test_a_newer_file_is_refused(path: str) -> None:
    add(Database(path, V2), "a")
    with pytest.raises(ReflowError, match=r"version 2, this program knows 1; use the newer reflow") as caught:
        notes(Database(path, V1))
    assert caught.value.kind is Kind.NOT_SUPPORTED
    assert path in str(caught.value)


def test_a_file_of_another_kind_is_refused(path: str) -> None:
    add(Database(path, V1), "a")
    with pytest.raises(ReflowError, match="holds something else, no pictures; name another file"):
        pragma(Database(path, OTHER), "user_version")


def test_a_file_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "theirs.db")
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE things (x)")
    theirs.close()
    before = Path(path).read_bytes()
    with pytest.raises(ReflowError, match="holds something else"):
        notes(Database(path, V1))
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize("junk", [b"no database at all " * 400, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_file_is_set_aside(path: str, junk: bytes) -> None:
    os.makedirs(os.path.dirname(path))
    Path(path).write_bytes(junk)
    with pytest.raises(ReflowError, match=r"set aside as \S+damaged-\S+; run again: an empty file") as caught:
        notes(Database(path, V1))
    assert caught.value.kind is Kind.INTEGRITY
    assert "notes are lost" in str(caught.value)
    (aside,) = Path(path).parent.iterdir()
    assert aside.read_bytes() == junk
    assert notes(Database(path, V1)) == []


def test_damage_that_shows_later_is_set_aside_too(path: str) -> None:
    database = Database(path, V1)
    for index in range(500):
        add(database, f"{index}" * 50)
    database.close()
    with open(path, "r+b") as stream:
        stream.seek(8192)
        stream.write(b"\xff" * 20000)
    with pytest.raises(ReflowError, match="set aside as"):
        notes(database)
    add(database, "anew")
    assert notes(database) == ["anew"]


def test_a_directory_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReflowError, match="set REFLOW_HOME") as caught:
        notes(Database(str(tmp_path / "file" / "x.db"), V1))
    assert caught.value.kind is Kind.NOT_ALLOWED


async def test_whoever_finds_it_locked_waits(path: str) -> None:
    database = Database(path, V1)
    add(database, "a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert database.try_now(database.transact(lambda connection: True)) is None

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('b')")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(database.perform(database.transact(write)))
        await asyncio.sleep(0.02)
        assert notes(database) == ["a"]
        other.execute("COMMIT")
    assert notes(database) == ["a", "b"]
    other.close()


def test_waiting_ends_with_a_name(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(path, V1)
    add(database, "a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(module, "BUSY_LIMIT_S", 0.02)
    with pytest.raises(ReflowError, match="locked by another process for 0 seconds") as caught:
        add(database, "b")
    assert caught.value.kind is Kind.UNAVAILABLE
    other.close()


async def test_on_a_network_file_system_there_is_no_log(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    local = Database(path, V1)
    add(local, "a")
    local.close()
    monkeypatch.setattr(module, "is_network", lambda directory: True)
    remote = Database(path, V1)
    threads = await remote.perform(lambda connection: threading.current_thread())
    assert threads is not threading.main_thread()
    assert (notes(remote), pragma(remote, "journal_mode")) == (["a"], "delete")
    fresh = Database(f"{path}.fresh", V1)
    assert pragma(fresh, "journal_mode") == "delete"
    remote.close()


WRITER = """
import sys
from tests.unit.disk.test_database import V1, add
from reflow.disk.database import Database
database = Database(sys.argv[1], V1)
for index in range(int(sys.argv[2])):
    add(database, f"{sys.argv[3]}-{index}")
    print(index, flush=True)
"""


def start_writer(path: str, count: int, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, path, str(count), name]
    root = Path(__file__).parents[3]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


def test_processes_may_write_at_once(path: str) -> None:
    writers = [start_writer(path, 30, name) for name in "abc"]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert sorted(notes(Database(path, V1))) == sorted(f"{name}-{n}" for name in "abc" for n in range(30))


def test_what_was_committed_survives_a_kill(path: str) -> None:
    writer = start_writer(path, 1_000_000, "x")
    assert writer.stdout is not None
    for line in writer.stdout:
        if line == "50\n":
            break
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    said = int(rest[-1]) if rest else 50
    database = Database(path, V1)
    assert pragma(database, "integrity_check") == "ok"
    assert len(notes(database)) in (said + 1, said + 2)
