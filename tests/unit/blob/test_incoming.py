"""Files whose bytes come in any order: what they have is what was summed, whoever was first."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow.blob import incoming
from reflow.blob.datapath import Received, Write
from reflow.blob.etag import HASH_HEADER, DamagedError
from reflow.blob.incoming import Incoming
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError

NOTHING_KNOWN = Received(-1, '"e-2"', {})


def md5_of(data: bytes) -> Received:
    return Received(len(data), f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"', {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "object"


@pytest.fixture
def file(path: Path) -> Iterator[Incoming]:
    made = Incoming(str(path), "s3://b/k")
    yield made
    made.close(is_good=True)


def put(write: Write, data: bytes, offset: int) -> None:
    """Write from a buffer that is used again at once, as a connection's is."""
    buffer = bytearray(data)
    write(memoryview(buffer), offset)
    buffer[:] = b"\0" * len(buffer)


def test_in_order(file: Incoming, path: Path) -> None:
    file.begin(md5_of(b"123456"))
    write = file.part()(NOTHING_KNOWN)
    for offset in (0, 2, 4):
        put(write, b"123456"[offset : offset + 2], offset)
    assert file.digest(6) == Digest.of(b"123456")
    assert path.read_bytes() == b"123456"


def test_the_last_part_first(file: Incoming, path: Path) -> None:
    file.begin(md5_of(b"123456"))
    writes = [file.part()(NOTHING_KNOWN) for _ in range(3)]
    for number in (2, 1, 0):
        put(writes[number], b"123456"[2 * number : 2 * number + 2], 2 * number)
    assert file.digest(6) == Digest.of(b"123456")
    assert path.read_bytes() == b"123456"


def test_another_try_changes_nothing_that_was_summed(file: Incoming, path: Path) -> None:
    """A first try that was damaged and cut off: the sum is that of the file, whatever it is."""
    file.begin(NOTHING_KNOWN)
    begin = file.part()
    put(begin(NOTHING_KNOWN), b"1X", 0)
    put(begin(NOTHING_KNOWN), b"123", 0)
    assert path.read_bytes() == b"1X3"
    assert file.digest(3) == Digest.of(b"1X3")


def test_another_try_replaces_what_was_not_summed(file: Incoming, path: Path) -> None:
    file.begin(NOTHING_KNOWN)
    first, second = file.part(), file.part()
    put(second(NOTHING_KNOWN), b"YY", 3)
    write = second(NOTHING_KNOWN)
    put(first(NOTHING_KNOWN), b"123", 0)  # what the second part had is not there any more
    put(write, b"45", 3)
    assert path.read_bytes() == b"12345"
    assert file.digest(5) == Digest.of(b"12345")


def test_what_waits_is_summed_with_what_follows_it(file: Incoming) -> None:
    file.begin(NOTHING_KNOWN)
    first, second = (file.part()(NOTHING_KNOWN) for _ in range(2))
    put(second, b"34", 2)
    put(second, b"56", 4)
    put(first, b"12", 0)
    put(second, b"78", 6)
    assert file.digest(8) == Digest.of(b"12345678")


def test_beginning_again_forgets_what_waits(file: Incoming, path: Path) -> None:
    file.begin(NOTHING_KNOWN)
    put(file.part()(NOTHING_KNOWN), b"XX", 2)
    file.begin(NOTHING_KNOWN)
    put(file.part()(NOTHING_KNOWN), b"12", 0)
    assert file.digest(2) == Digest.of(b"12")
    assert path.read_bytes() == b"12"


def test_an_object_that_comes_whole_begins_anew(file: Incoming, path: Path) -> None:
    """It may be another version the second time."""
    put(file.whole(md5_of(b"first and longer")), b"first and", 0)
    put(file.whole(md5_of(b"second")), b"second", 0)
    assert file.digest(6) == Digest.of(b"second")
    assert path.read_bytes() == b"second"


def test_an_empty_object(file: Incoming, path: Path) -> None:
    file.whole(md5_of(b""))
    assert file.digest(0) == Digest.of(b"")
    assert path.read_bytes() == b""


def test_bytes_that_are_not_those_of_the_etag(file: Incoming) -> None:
    put(file.whole(md5_of(b"good")), b"evil", 0)
    with pytest.raises(DamagedError):
        file.digest(4)


def test_bytes_that_are_not_those_of_the_metadata(file: Incoming) -> None:
    about = Received(4, '"e-2"', {HASH_HEADER: Digest.of(b"good").hex()})
    put(file.whole(about), b"evil", 0)
    with pytest.raises(ReflowError, match="content-sha256"):
        file.digest(4)


def test_a_file_that_is_there_stays(path: Path) -> None:
    path.write_bytes(b"mine")
    file = Incoming(str(path), "s3://b/k")
    with pytest.raises(ReflowError) as caught:
        file.begin(NOTHING_KNOWN)
    file.close(is_good=False)
    assert (caught.value.kind, path.read_bytes()) == (Kind.INVALID, b"mine")


def test_what_is_not_good_is_removed(path: Path) -> None:
    file = Incoming(str(path), "s3://b/k")
    file.begin(NOTHING_KNOWN)
    assert path.exists()
    file.close(is_good=False)
    assert not path.exists()


def test_a_file_that_somebody_cuts_off_is_an_error(file: Incoming, path: Path) -> None:
    file.begin(NOTHING_KNOWN)
    first, second = (file.part()(NOTHING_KNOWN) for _ in range(2))
    put(second, b"456", 3)
    path.write_bytes(b"")
    with pytest.raises(ReflowError, match="cut off"):
        put(first, b"123", 0)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 7), threads=st.integers(1, 5))
def test_any_order_and_any_tries(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, threads: int
) -> None:
    """Parts by several threads, cut off anywhere, a try that failed having brought other bytes or not."""
    chance = random.Random(seed)
    sizes = [chance.randrange(1, 5000) for _ in range(count)]
    data = chance.randbytes(sum(sizes))
    path = tmp_path_factory.mktemp("any") / "object"
    file = Incoming(str(path), "s3://b/k")
    file.begin(NOTHING_KNOWN)
    damaged = threading.Event()

    def fetch(number: int) -> None:
        own = random.Random(seed + number)
        start = sum(sizes[:number])
        begin = file.part()
        for tries_left in range(own.randrange(3), -1, -1):
            write = begin(NOTHING_KNOWN)
            stop = sizes[number] if not tries_left else own.randrange(sizes[number])
            is_bad = tries_left and own.random() < 0.3
            at = 0
            while at < stop:
                size = min(own.randrange(1, 900), stop - at)
                piece = data[start + at : start + at + size]
                if is_bad:
                    damaged.set()
                    piece = bytes(each ^ 1 for each in piece)
                put(write, piece, start + at)
                at += size

    numbers = list(range(count))
    chance.shuffle(numbers)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fetch, numbers))
    digest = file.digest(len(data))
    file.close(is_good=True)
    assert digest == Digest.of(path.read_bytes())
    assert damaged.is_set() or digest == Digest.of(data)


def test_what_is_read_again_may_be_larger_than_the_buffer(
    file: Incoming, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "_CHUNK", 3)
    data = bytes(range(100))
    file.begin(NOTHING_KNOWN)
    first, second = (file.part()(NOTHING_KNOWN) for _ in range(2))
    put(second, data[40:], 40)
    put(first, data[:40], 0)
    assert file.digest(100) == Digest.of(data)
