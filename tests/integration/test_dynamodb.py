"""What a real server says when something is missing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from reflow.assoc.dynamodb import DynamoAssoc
from reflow.aws.dynamodb import ATTEMPTS, CONCURRENCY
from reflow.aws.session import AwsSession
from reflow.aws.tables import ASSOC
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.taskdb import Run
from reflow.taskdb.dynamodb import DynamoTaskDB
from tests import dynamotable, servers
from tests.dictbucket import DictBucket, blob_repository

pytestmark = pytest.mark.dynamodb
TRANSPORTS = pytest.mark.parametrize("transport", ["direct", "boto"])


@TRANSPORTS
async def test_a_missing_table_is_named(monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    servers.use(monkeypatch)
    assoc = DynamoAssoc(AwsSession(), "no-such-table", transport=transport)
    with pytest.raises(ReflowError, match="there is no table no-such-table") as caught:
        await assoc.open()
    assert caught.value.kind is Kind.NOT_EXIST
    await assoc.close()


@TRANSPORTS
async def test_a_missing_index_is_named(monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    servers.use(monkeypatch)
    with dynamotable.table(ASSOC._replace(indices=())) as (session, name):
        assoc = DynamoAssoc(session, name, transport=transport)
        with pytest.raises(ReflowError, match="has no index ID4-ID-index") as caught:
            await assoc.expand(DigestPrefix(Digest.of(b"a")[:4]))
        assert caught.value.kind is Kind.NOT_EXIST
        await assoc.close()


async def test_a_server_that_is_not_there_is_a_network_error(monkeypatch: pytest.MonkeyPatch) -> None:
    servers.use(monkeypatch, dynamodb="http://127.0.0.1:1")
    monkeypatch.setattr("reflow.aws.dynamodb.FIRST_DELAY_S", 0.0)
    assoc = DynamoAssoc(AwsSession(), "t")
    with pytest.raises(ReflowError) as caught:
        await assoc.open()
    assert caught.value.kind is Kind.NET
    await assoc.close()


@asynccontextmanager
async def silence(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counter[str]]:
    """A server that hangs up on whoever calls, at once; how often it was called."""
    calls: Counter[str] = Counter()

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls["calls"] += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        servers.use(monkeypatch, dynamodb=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield calls


def run(number: int) -> Run:
    return Run(id=Digest.of(b"%d" % number), user="jo", program="a.rf", start=datetime.now(UTC))


async def test_when_nobody_answers_not_every_row_is_tried_at_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reflow.aws.dynamodb.FIRST_DELAY_S", 0.0)
    async with silence(monkeypatch) as server:
        database = DynamoTaskDB(AwsSession(), "t", blob_repository(DictBucket()))
        for number in range(300):
            database.put_run(run(number))
        with pytest.raises(ReflowError) as caught:
            await database.flush()
        assert caught.value.kind is Kind.NET
        assert server["calls"] <= ATTEMPTS * CONCURRENCY
        server.clear()
        with pytest.raises(ReflowError):
            await database.close()
        assert server["calls"] == 0


async def test_when_nobody_answers_writes_behind_do_not_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reflow.aws.dynamodb.FIRST_DELAY_S", 0.02)
    monkeypatch.setattr("reflow.aws.dynamodb.MAX_DELAY_S", 0.02)
    monkeypatch.setattr("reflow.taskdb.dynamodb.WRITE_INTERVAL_S", 0.0)
    async with silence(monkeypatch) as server:
        database = DynamoTaskDB(AwsSession(), "t", blob_repository(DictBucket()))
        for _ in range(50):
            database.put_run(run(0))
            await asyncio.sleep(0.005)
        with pytest.raises(ReflowError):
            await database.flush()
        assert server["calls"] <= 3 * ATTEMPTS
        with pytest.raises(ReflowError):
            await database.close()
