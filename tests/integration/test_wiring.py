"""What wiring has opened, and lets go of."""

from __future__ import annotations

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.runtime import wiring
from tests import servers


@pytest.mark.s3
async def test_connections_are_closed_and_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    servers.use(monkeypatch)
    await wiring.close_connections()
    session = wiring.aws_session()
    assert wiring.aws_session() is session
    for _ in range(2):
        with pytest.raises(ReflowError) as caught:
            await wiring.open_bucket("s3", "no-such-bucket-of-reflow")
        assert caught.value.kind is Kind.NOT_EXIST
        await wiring.close_connections()
    assert wiring.aws_session() is not session
    await wiring.close_connections()


async def test_buckets_of_other_schemes_are_refused() -> None:
    with pytest.raises(ReflowError, match="no implementation for scheme gs") as caught:
        await wiring.open_bucket("gs", "x")
    assert caught.value.kind is Kind.NOT_SUPPORTED
