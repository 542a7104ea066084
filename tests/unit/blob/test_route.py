"""How a bucket is reached: by what the environment says, by what botocore says, or not by us."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.aws.session import AwsSession
from reflow.blob.boto import BotoDataPath
from reflow.blob.datapath import Place
from reflow.blob.direct import DirectPath
from reflow.blob.route import VARIABLE, open_direct, open_path, told_by_botocore, told_by_environment
from reflow.core.errors import Kind, ReflowError
from reflow.disk.blocking import Blocking

ENDPOINT = "http://127.0.0.1:8333"
CA = Path(__file__).parent.parent.parent / "data" / "tls" / "ca.pem"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    threads = Blocking("test", 1)
    yield threads
    threads.close()


def place(bucket: str = "bucket", region: str = "eu-west-1", blocking: Blocking | None = None) -> Place:
    return Place(AwsSession(region=region), region, bucket, blocking or Blocking("test", 1))


@pytest.mark.parametrize(
    ("bucket", "region", "host", "start"),
    [
        ("bucket", "eu-west-1", "bucket.s3.eu-west-1.amazonaws.com", "/"),
        ("bucket", "cn-north-1", "bucket.s3.cn-north-1.amazonaws.com.cn", "/"),
        ("a.b", "eu-west-1", "s3.eu-west-1.amazonaws.com", "/a.b/"),
    ],
)
def test_buckets_at_aws(bucket: str, region: str, host: str, start: str) -> None:
    assert told_by_environment(place(bucket, region)) is None
    route = told_by_botocore(place(bucket, region))
    assert route is not None
    assert (route.host, route.start, route.scope) == (host, start, (region, "s3"))
    assert (route.origin.host, route.origin.port) == (host, 443)
    assert route.origin.tls is not None
    assert route.access() == ("AK", "SK", None)


def test_the_configuration_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[default]\nuse_dualstack_endpoint = true\ns3 =\n  addressing_style = path\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    route = told_by_botocore(place())
    assert route is not None
    assert (route.host, route.start) == ("s3.dualstack.eu-west-1.amazonaws.com", "/bucket/")


def test_an_endpoint_with_credentials_says_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ENDPOINT)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "TOK")
    route, same = told_by_environment(place()), told_by_botocore(place())
    assert route is not None
    assert same is not None
    assert route[:-1] == same[:-1]
    assert route[:-1] == (("127.0.0.1", 8333, None), "127.0.0.1:8333", "/bucket/", ("eu-west-1", "s3"))
    assert route.access() == same.access() == ("AK", "SK", "TOK")


def test_then_botocore_is_not_imported() -> None:
    program = (
        "import asyncio, sys; from reflow.aws.session import AwsSession; from reflow.blob.s3 import S3Store;"
        "from reflow.blob.datapath import Place; from reflow.blob.route import open_path;"
        "session = AwsSession(); open_path(Place(session, session.region, 'bucket', None));"
        "sys.exit('botocore' in sys.modules)"
    )
    variables = {**os.environ, "AWS_ENDPOINT_URL_S3": ENDPOINT, "AWS_DEFAULT_REGION": "eu-west-1"}
    assert subprocess.run([sys.executable, "-c", program], env=variables, check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z"),
        ("AWS_ENDPOINT_URL_S3", "https://127.0.0.1:8333"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:x"),
        ("AWS_ENDPOINT_URL_S3", "http://u:p@127.0.0.1"),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        ("AWS_PROFILE", "p"),
        ("http_proxy", "http://127.0.0.1:1"),
    ],
)
def test_what_more_has_to_be_known_is_left_to_botocore(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ENDPOINT)
    monkeypatch.setenv(name, value)
    assert told_by_environment(place()) is None


def test_a_configuration_is_left_to_botocore(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ENDPOINT)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = x\n")
    assert told_by_environment(place()) is None


def test_without_credentials_requests_are_anonymous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    route = told_by_botocore(place())
    assert route is not None
    assert (route.host, route.access()) == ("bucket.s3.eu-west-1.amazonaws.com", None)


def test_credentials_are_asked_for_anew() -> None:
    where = place()
    route = told_by_botocore(where)
    assert route is not None
    found = where.session.botocore.get_credentials()
    found.secret_key = "NEW"
    assert route.access() == ("AK", "NEW", None)


@pytest.mark.parametrize(
    "bucket",
    [
        "arn:aws:s3::123456789012:accesspoint/m.mrap",
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/p",
        "name--euw1-az1--x-s3",
    ],
)
def test_special_buckets_are_left_to_boto(bucket: str, blocking: Blocking) -> None:
    assert isinstance(open_path(place(bucket, blocking=blocking)), BotoDataPath)
    with pytest.raises(ReflowError) as caught:
        open_direct(place(bucket))
    assert caught.value.kind is Kind.NOT_SUPPORTED


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({}, DirectPath),
        ({"HTTPS_PROXY": "http://127.0.0.1:1"}, BotoDataPath),
        ({"https_proxy": "http://127.0.0.1:1", "no_proxy": "amazonaws.com"}, DirectPath),
        ({"HTTP_PROXY": "http://127.0.0.1:1"}, DirectPath),
        ({VARIABLE: "boto"}, BotoDataPath),
        ({VARIABLE: "auto"}, DirectPath),
        ({"AWS_CA_BUNDLE": str(CA)}, DirectPath),
    ],
)
def test_which_path_is_taken(
    monkeypatch: pytest.MonkeyPatch, blocking: Blocking, variables: dict[str, str], kind: type
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert isinstance(open_path(place(blocking=blocking)), kind)


def test_a_bundle_is_what_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(CA))
    route = told_by_botocore(place())
    assert route is not None
    assert route.origin.tls is not None
    (trusted,) = route.origin.tls.get_ca_certs()
    assert "Reflow test authority" in str(trusted["subject"])


@pytest.mark.parametrize(
    ("name", "value"), [(VARIABLE, "fast"), ("AWS_CA_BUNDLE", "/nowhere"), ("AWS_CA_BUNDLE", __file__)]
)
def test_what_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ReflowError, match=value) as caught:
        open_path(place())
    assert caught.value.kind is Kind.INVALID
