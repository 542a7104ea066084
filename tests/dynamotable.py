"""Tables of a random name on a real server, taken away afterwards."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator

from reflow.aws.session import AwsSession
from reflow.aws.tables import Table, creation


@contextlib.contextmanager
def table(kind: Table) -> Iterator[tuple[AwsSession, str]]:
    """A fresh table at the endpoint that the environment names."""
    session = AwsSession()
    client = session.client("dynamodb")
    name = f"test-{uuid.uuid4().hex[:12]}"
    request = {key: value for key, value in creation(kind, name).items() if value}
    client.create_table(**request)
    try:
        while not _is_active(client.describe_table(TableName=name)["Table"]):
            time.sleep(0.05)
        yield session, name
    finally:
        client.delete_table(TableName=name)
        session.close()


def _is_active(state: dict[str, object]) -> bool:
    indices = state.get("GlobalSecondaryIndexes") or []
    assert isinstance(indices, list)
    return all(each.get("TableStatus", each.get("IndexStatus")) == "ACTIVE" for each in (state, *indices))
