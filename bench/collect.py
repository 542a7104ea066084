#!/usr/bin/env python3
"""Collect simulated stores that no server of tests holds, beside only reading them.

usage: bench/collect.py [ENTRIES] [--dry-run] [--page ITEMS]

A table of ENTRIES entries (1 000 000), two for each result; each result has a value object and two files, of
which one is shared by ten results. Every other result was not used for long. The stores answer in pages, from
files on disk, at once: what is measured is our own work and memory. Afterwards it is checked that exactly the
garbage has gone. The floor makes the same calls in the same way and decides nothing; peaks are those of
processes that do nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, cast

from reflow.assoc.dynamodb import DynamoAssoc
from reflow.aws.dynamodb import DynamoDB
from reflow.aws.session import AwsSession
from reflow.blob import Bucket
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import encode_fileset
from reflow.repository.blobmaintenance import BlobObjects
from reflow.repository.blobrepo import BlobRepository
from reflow.runtime.collect import Collector, CollectRequest, Scope
from reflow.runtime.collectstate import CollectState
from reflow.runtime.log import LEVELS, Log

NOW_S = 1_700_000_000.0
YOUNG, OLD = NOW_S - 3 * 86400, NOW_S - 60 * 86400
OWN, SHARED, VALUE = 0, 1, 2
PAGE = 3000
"""Items of a page of a table: about a MiB of them."""
_RECORD = 37
"""Digest, number, what it is."""
_READ_AT_ONCE = 64


def named(what: bytes, number: int) -> Digest:
    """A name that tells its number."""
    return Digest(sha256(b"%s %d" % (what, number)).digest()[:28] + number.to_bytes(4, "big"))


def is_old(result: int) -> bool:
    return bool(result % 2)


def value_bytes(result: int) -> bytes:
    shared = result // 20 * 2 + result % 2
    names = (named(b"own", result), named(b"shared", shared))
    return encode_fileset(Fileset({str(n): File(name, 100) for n, name in enumerate(names)}))


class Table(DynamoDB):
    """Entries by number."""

    def __init__(self, entries: int, page: int) -> None:
        super().__init__(AwsSession())
        self.page = page
        self.entries = entries
        self.removed = bytearray(entries)

    async def call(
        self, operation: str, request: dict[str, Any], *, until_s: float = math.inf
    ) -> dict[str, Any]:
        if operation == "Scan":
            return self._scan(request)
        assert operation == "DeleteItem"
        self.removed[int(request["Key"]["ID"]["S"][-8:], 16)] = 1
        return {}

    def _scan(self, request: dict[str, Any]) -> dict[str, Any]:
        segment, count = request["Segment"], request["TotalSegments"]
        first = request.get("ExclusiveStartKey", segment)
        since_s = float(request.get("ExpressionAttributeValues", {}).get(":since", {}).get("N", 0))
        numbers = range(first, self.entries, count)[: self.page]
        items = [self._item(n) for n in numbers if not self.removed[n] and since_s <= self._used_s(n)]
        last = first + count * self.page
        return {"Items": items, **({"LastEvaluatedKey": last} if last < self.entries else {})}

    def _used_s(self, number: int) -> float:
        return OLD if is_old(number // 2) else YOUNG

    def _item(self, number: int) -> dict[str, Any]:
        return {
            "ID": {"S": str(named(b"key", number))},
            "ValueV2": {"S": str(Digest.of(value_bytes(number // 2)))},
            "LastAccessTime": {"N": str(int(self._used_s(number)))},
            "Labels": {"SS": ["user=jo"]},
        }


class Objects:
    """A bucket: a sorted file for each first byte of digests."""

    location = "s3://simulated/"

    def __init__(self, directory: str) -> None:
        self._files = [os.open(f"{directory}/{number:02x}", os.O_RDONLY) for number in range(256)]
        self.removed = [bytearray(os.fstat(each).st_size // _RECORD) for each in self._files]

    def records(self, number: int) -> Iterator[tuple[Digest, int, int, int]]:
        """Digest, number, what it is and place of what is there."""
        data = os.pread(self._files[number], len(self.removed[number]) * _RECORD, 0)
        for place, is_removed in enumerate(self.removed[number]):
            if not is_removed:
                yield (*_fields(data[place * _RECORD : (place + 1) * _RECORD]), place)

    async def scan(self, prefix: str, *, has_metadata: bool = False) -> AsyncIterator[tuple[str, File]]:
        if not prefix.startswith("objects/sha256:"):
            return
        for digest, number, what, _ in self.records(int(prefix[-2:], 16)):
            yield f"objects/{digest}", _file(number, what)

    def _find(self, key: str) -> tuple[int, int, int]:
        digest = Digest.parse(key.removeprefix("objects/"))
        low, high = 0, len(self.removed[digest[0]])
        while low < high:
            middle = (low + high) // 2
            found, number, what = _fields(os.pread(self._files[digest[0]], _RECORD, middle * _RECORD))
            if found == digest:
                if self.removed[digest[0]][middle]:
                    break
                return number, what, middle
            low, high = (middle + 1, high) if found < digest else (low, middle)
        raise ReflowError(Kind.NOT_EXIST, "simulated", key)

    async def file(self, key: str) -> File:
        await asyncio.sleep(0)
        number, what, _ = self._find(key)
        return _file(number, what)

    async def read(self, key: str, *, etag: str = "") -> bytes:
        await asyncio.sleep(0)
        number, what, _ = self._find(key)
        assert what == VALUE
        return value_bytes(number)

    async def delete(self, keys: Collection[str]) -> None:
        assert len(keys) <= 1000
        for key in keys:
            _, _, place = self._find(key)
            self.removed[Digest.parse(key.removeprefix("objects/"))[0]][place] = 1


def _fields(record: bytes) -> tuple[Digest, int, int]:
    return Digest(record[:32]), int.from_bytes(record[32:36], "big"), record[36]


def _file(number: int, what: int) -> File:
    used_s = OLD if is_old(number) else YOUNG
    return File(None, 100, "", "", datetime.fromtimestamp(used_s, UTC))


def make_objects(directory: str, results: int) -> int:
    """Write the files of a bucket; how many objects."""
    bins: list[list[bytes]] = [[] for _ in range(256)]

    def add(digest: Digest, number: int, what: int) -> None:
        bins[digest[0]].append(digest + number.to_bytes(4, "big") + bytes([what]))

    for result in range(results):
        add(named(b"own", result), result, OWN)
        add(Digest.of(value_bytes(result)), result, VALUE)
        if result % 20 < 2:
            add(named(b"shared", result // 20 * 2 + result % 2), result, SHARED)
    for number, records in enumerate(bins):
        with open(f"{directory}/{number:02x}", "wb") as stream:
            stream.write(b"".join(sorted(records)))
    return sum(map(len, bins))


def stores(directory: str, entries: int, page: int) -> tuple[DynamoAssoc, Objects, BlobRepository]:
    assoc = DynamoAssoc(AwsSession(), "simulated")
    assoc._database.close()
    assoc._database = assoc._rows._database = Table(entries, page)
    objects = Objects(directory)

    async def opened() -> Bucket:
        return cast("Bucket", objects)

    return assoc, objects, BlobRepository(objects.location, opened)


async def collect(directory: str, entries: int, page: int, *, dry_run: bool) -> None:
    assoc, objects, repository = stores(directory, entries, page)
    state = CollectState(f"{directory}/state")
    request = CollectRequest(
        NOW_S - 30 * 86400, lambda labels: False, lambda labels: False, dry_run, rate=10**9
    )
    scope = Scope(repository, BlobObjects(repository), assoc, state, is_shared=True)
    collector = Collector(request, scope, Log(LEVELS["info"], sys.stderr.write), NOW_S)
    await collector.scan()
    await collector.collect_objects()
    size = sum(each.stat().st_size for each in os.scandir(f"{directory}/state/references"))
    size += os.stat(f"{directory}/state/collect.db").st_size
    print(json.dumps({"disk_mb": size / 1e6, "removed": collector.objects.removed}), flush=True)
    if dry_run:
        return
    table = cast("Table", assoc._database)
    assert all(bool(table.removed[number]) is is_old(number // 2) for number in range(entries))
    left = [is_old(number) for each in range(256) for _, number, _, _ in objects.records(each)]
    assert not any(left)
    assert collector.objects.removed + len(left) == collector.objects.objects


async def only_read(directory: str, entries: int, page: int) -> None:
    assoc, _, repository = stores(directory, entries, page)
    bucket = await repository.bucket()
    waiting: deque[Digest] = deque()
    last = None
    async for entry in assoc.scan():
        (value,) = entry.values.values()
        if entry.last_access_s > OLD and value != last:
            waiting.append(value)
            last = value
        if len(waiting) == _READ_AT_ONCE:
            await repository.read_many(waiting)
            waiting.clear()
    for number in range(256):
        old = [key async for key, file in bucket.scan(f"objects/sha256:{number:02x}") if _is_old(file)]
        for key in old:
            await bucket.file(key)
        for start in range(0, len(old), 1000):
            await bucket.delete(old[start : start + 1000])


def _is_old(file: File) -> bool:
    return file.last_modified is not None and file.last_modified.timestamp() <= OLD


def measured(what: str, directory: str, entries: int, page: int = PAGE) -> dict[str, float]:
    """Time and peak of a process that does one thing."""
    began_s = time.monotonic()
    words = [sys.executable, __file__, str(entries), "--page", str(page), "--child", what]
    words += ["--directory", directory]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE)
    wall_s = time.monotonic() - began_s
    found: dict[str, float] = {"wall_s": wall_s}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    return found


def child(what: str, directory: str, entries: int, page: int) -> None:
    if what == "floor":
        asyncio.run(only_read(directory, entries, page))
    elif what != "nothing":
        asyncio.run(collect(directory, entries, page, dry_run=what == "dry-run"))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"peak_mb": _peak_mb(), "cpu_s": usage.ru_utime + usage.ru_stime}))


def _peak_mb() -> float:
    """Of this program alone; the peak that getrusage tells may be that of the process that began it."""
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) / 1024 for line in stream if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("entries", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--page", type=int, default=PAGE)
    parser.add_argument("--child", default="")
    parser.add_argument("--directory", default="")
    words = parser.parse_args()
    if words.child:
        child(words.child, words.directory, words.entries, words.page)
        return
    directory = tempfile.mkdtemp(prefix="bench-collect-")
    try:
        objects = make_objects(directory, words.entries // 2)
        nothing = measured("nothing", directory, words.entries, words.page)
        floor = measured("floor", directory, words.entries, words.page)
        ours = measured("dry-run" if words.dry_run else "collect", directory, words.entries, words.page)
    finally:
        shutil.rmtree(directory)
    print(f"{words.entries} entries, {objects} objects, {ours['removed']:.0f} of them removed")
    for name, row in (("nothing", nothing), ("floor", floor), ("collect", ours)):
        print(f"{name:8} {row['wall_s']:7.1f} s  {row['cpu_s']:7.1f} s of CPU  peak {row['peak_mb']:6.1f} MB")
    print(f"ratio of CPU {ours['cpu_s'] / floor['cpu_s']:.2f}, disk {ours['disk_mb']:.0f} MB")


if __name__ == "__main__":
    main()
