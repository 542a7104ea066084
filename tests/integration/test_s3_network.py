"""What users are told when S3 cannot be reached: which host, which object, and what to do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from reflow.aws.session import AwsSession
from reflow.blob.datapath import OpenDataPath, Place, Target
from reflow.core.errors import Kind, ReflowError
from reflow.disk.blocking import Blocking
from tests import servers
from tests.buckets import DATA_PATHS
from tests.faultproxy import Fault, fault_proxy

ADVICE = "check the network, and AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL if one is set"


@contextmanager
def refusing() -> Iterator[str]:
    """An endpoint where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def cutting() -> Iterator[str]:
    """An endpoint that ends connections before it answers."""
    with fault_proxy(servers.S3, 1) as (proxy, url):
        proxy.plan = lambda what, count: Fault.CUT_BEFORE
        yield url.removeprefix("http://")


@contextmanager
def unknown() -> Iterator[str]:
    """An endpoint whose name nobody knows."""
    yield "no-such-host.invalid:8890"


@pytest.mark.parametrize("path", DATA_PATHS.values(), ids=DATA_PATHS)
@pytest.mark.parametrize("endpoint", [refusing, cutting, unknown])
async def test_the_host_the_object_and_what_to_do_are_named(
    endpoint: Callable[[], AbstractContextManager[str]], path: OpenDataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint() as host:
        servers.use(monkeypatch, s3=f"http://{host}")
        blocking = Blocking("test", 2)
        data = path(Place(AwsSession(), servers.REGION, "bucket", blocking))
        with pytest.raises(ReflowError) as caught:
            await data.read(Target("bucket", "some/key"))
        with pytest.raises(ReflowError) as asked:
            await data.region()
        await data.close()
        blocking.close()
    for error in (caught.value, asked.value):
        assert error.kind is Kind.NET
        assert host in str(error)
        assert ADVICE in str(error)
    assert "s3://bucket/some/key" in str(caught.value)
    assert "bucket" in str(asked.value)
