"""What a real server says when something is missing."""

import pytest

from reflow.assoc.dynamodb import DynamoAssoc
from reflow.aws.session import AwsSession
from reflow.aws.tables import ASSOC
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from tests import dynamotable, servers

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
