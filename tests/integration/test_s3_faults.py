"""S3 through a network that does harm at random: nothing is lost, nothing wrong is taken, nothing is left.

``REFLOW_S3_FAULTS`` is the number of operations (more in longer tests), ``REFLOW_S3_SEED`` repeats a run;
``S3_PORT`` names a server of one's own.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reflow.aws.session import AwsSession
from reflow.blob import Bucket
from reflow.blob.s3part import READ_WHOLE, SMALLEST_PART
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from tests import servers
from tests.buckets import DATA_PATHS, s3_setting
from tests.faultproxy import Fault, FaultProxy, fault_proxy

OPERATIONS = int(os.environ.get("REFLOW_S3_FAULTS", "300"))
SEED = int(os.environ.get("REFLOW_S3_SEED") or random.randrange(1 << 32))
WORKERS = 12
MOST_TRIES = 9 * 4
"""Of one request for one operation: nine for what may pass, and four looks at what each has done."""

RATES = dict.fromkeys(Fault, 0.02)
SIZES = (0, 1, 700, 40_000, 1 << 20)
LARGE = (SMALLEST_PART + 1, 2 * SMALLEST_PART, READ_WHOLE + 3)
RANDOM = random.Random(3).randbytes(READ_WHOLE + (1 << 20))

Value = bytes | None
"""What a key may have; None: nothing."""


@dataclass
class Worker:
    """Works on keys of its own, and knows what may be there: more than one value after a call that failed."""

    number: int
    bucket: Bucket
    proxy: FaultProxy
    home: Path
    chance: random.Random
    may: dict[str, list[Value]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    most_tries: int = 0

    async def run(self, count: int) -> None:
        self.may = {f"w{self.number}/key {each}+é": [None] for each in range(5)}
        for number in range(count):
            name = self.chance.choices(
                [
                    "put",
                    "put_new",
                    "upload",
                    "upload_large",
                    "read",
                    "get",
                    "download",
                    "copy",
                    "delete",
                    "scan",
                ],
                [16, 10, 12, 4, 14, 8, 16, 8, 8, 4],
            )[0]
            before = self._asked()
            work = asyncio.ensure_future(getattr(self, name)(self.chance.choice(list(self.may)), number))
            if self.chance.random() < 0.04:
                await asyncio.wait([work], timeout=self.chance.uniform(0, 0.3))
                work.cancel()
            await asyncio.wait([work])
            self.outcomes[f"{name} {self._outcome(work)}"] += 1
            self.most_tries = max(self.most_tries, *(self._asked() - before).values(), 0)

    def _asked(self) -> Counter[str]:
        """How often each thing was asked that is about keys of this worker."""
        mine = re.compile(rf"[/=]w{self.number}(/|%2F)")
        return Counter({what: count for what, count in self.proxy.asked.copy().items() if mine.search(what)})

    def _outcome(self, work: asyncio.Future[None]) -> str:
        if work.cancelled():
            return "cancelled"
        err = work.exception()
        if isinstance(err, ReflowError):
            return str(err.kind.value)
        if err is not None:
            raise err
        return "done"

    def _data(self, sizes: tuple[int, ...]) -> bytes:
        size, start = self.chance.choice(sizes), self.chance.randrange(1 << 20)
        return RANDOM[start : start + size]

    def _hash(self, data: bytes) -> Digest | None:
        return Digest.of(data) if self.chance.random() < 0.6 else None

    async def put(self, key: str, number: int) -> None:
        data = self._data(SIZES)
        self.may[key] = [*self.may[key], data]
        await self.bucket.put(key, data, content_hash=self._hash(data))
        self.may[key] = [data]

    async def put_new(self, key: str, number: int) -> None:
        """Absent keys are taken, others are left alone, whatever is lost on the way."""
        data = b"%d %d" % (self.number, number)
        before = self.may[key]
        if None in before:
            self.may[key] = [*before, data]
        try:
            await self.bucket.put(key, data, if_absent=True)
        except ReflowError as err:
            if err.kind is Kind.PRECONDITION:
                assert before != [None], f"{key} was absent, and is said to exist"
                self.may[key] = [value for value in before if value is not None]
            raise
        assert None in before, f"{key} existed, and was replaced"
        self.may[key] = [data]

    async def upload(self, key: str, number: int) -> None:
        await self._upload(key, self._data(SIZES))

    async def upload_large(self, key: str, number: int) -> None:
        await self._upload(key, self._data(LARGE))

    async def _upload(self, key: str, data: bytes) -> None:
        path = self.home / f"{self.number}-in"
        path.write_bytes(data)
        self.may[key] = [*self.may[key], data]
        await self.bucket.upload(key, str(path), content_hash=Digest.of(data))
        self.may[key] = [data]

    async def read(self, key: str, number: int) -> None:
        try:
            self._saw(key, await self.bucket.read(key))
        except ReflowError as err:
            self._missed(key, err)

    async def get(self, key: str, number: int) -> None:
        try:
            self._saw(key, b"".join([chunk async for chunk in self.bucket.get(key)]))
        except ReflowError as err:
            self._missed(key, err)

    async def download(self, key: str, number: int) -> None:
        path = self.home / f"{self.number}-out-{number}"
        size = self.chance.choice([0, READ_WHOLE + 1])
        try:
            digest = await self.bucket.download(key, str(path), size=size)
        except ReflowError as err:
            assert not path.exists()
            self._missed(key, err)
            return
        data = path.read_bytes()
        path.unlink()
        assert Digest.of(data) == digest
        self._saw(key, data)

    def _saw(self, key: str, data: bytes) -> None:
        assert data in self.may[key], f"{key}: {len(data)} bytes that nobody wrote"
        self.may[key] = [data]

    def _missed(self, key: str, err: ReflowError) -> None:
        if err.kind is Kind.NOT_EXIST:
            assert None in self.may[key], f"{key} is lost: {err}"
            self.may[key] = [None]
        raise err

    async def copy(self, key: str, number: int) -> None:
        source = self.chance.choice([each for each in self.may if each != key])
        before = self.may[key]
        self.may[key] = [*before, *[value for value in self.may[source] if value is not None]]
        try:
            await self.bucket.copy_from(self.bucket, source, key)
        except ReflowError as err:
            if err.kind is Kind.NOT_EXIST:
                self.may[key] = before
            self._missed(source, err)
        self.may[source] = [value for value in self.may[source] if value is not None]
        self.may[key] = list(self.may[source])

    async def delete(self, key: str, number: int) -> None:
        keys = [key, *self.chance.sample(list(self.may), 2)]
        for each in keys:
            self.may[each] = [*self.may[each], None]
        await self.bucket.delete(keys)
        for each in keys:
            self.may[each] = [None]

    async def scan(self, key: str, number: int) -> None:
        found = {each: file.size async for each, file in self.bucket.scan(f"w{self.number}/")}
        self.compare(found)

    def compare(self, found: dict[str, int]) -> None:
        assert set(found) <= set(self.may)
        for key, values in self.may.items():
            sizes = {None if value is None else len(value) for value in values}
            assert found.get(key) in sizes, f"{key}: {found.get(key)} bytes, want one of {sizes}"

    def check(self, client: Any, bucket: str) -> None:
        """Compare with what the server says itself."""
        for key, values in self.may.items():
            try:
                found: Value = client.get_object(Bucket=bucket, Key=key)["Body"].read()
            except client.exceptions.NoSuchKey:
                found = None
            assert found in values, f"{key} is not what was written last"


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("data_path", DATA_PATHS)
async def test_s3_through_a_network_that_does_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_path: str
) -> None:
    print(f"REFLOW_S3_SEED={SEED} REFLOW_S3_FAULTS={OPERATIONS}")
    with fault_proxy(servers.S3, SEED) as (proxy, url):
        servers.use(monkeypatch, s3=url)
        with s3_setting(AwsSession(), DATA_PATHS[data_path]) as setting:
            bucket = await setting.store.bucket(setting.names[0])
            workers = [
                Worker(number, bucket, proxy, tmp_path, random.Random(f"{SEED} {number}"))
                for number in range(WORKERS)
            ]
            proxy.rates = RATES
            await asyncio.gather(*[worker.run(OPERATIONS // WORKERS) for worker in workers])
            proxy.rates = {}
            for worker in workers:
                worker.check(setting.client, setting.names[0])
            assert setting.uploads() == []
            await setting.store.close()
    assert list(tmp_path.glob("*-out-*")) == []
    report(workers, proxy)
    assert max(worker.most_tries for worker in workers) <= MOST_TRIES
    assert proxy.done.total() > OPERATIONS // 10


def report(workers: list[Worker], proxy: FaultProxy) -> None:
    outcomes: Counter[str] = sum((worker.outcomes for worker in workers), Counter())
    print(f"{outcomes.total()} operations: {dict(sorted(outcomes.items()))}")
    print(f"{proxy.asked.total()} requests, {proxy.done.total()} faults:")
    for fault, count in proxy.done.most_common():
        print(f"  {count} {fault.value}")
    print(f"at most {max(worker.most_tries for worker in workers)} tries of one request for one operation")
