"""Settings of AWS's that cannot be used are errors that say what to do, wherever they are met."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reflow.aws.dynamodb import DynamoDB
from reflow.aws.session import AwsSession
from reflow.aws.settings import SettingsError
from reflow.aws.sigv4 import Access
from reflow.blob.s3 import S3Store
from reflow.core.errors import Kind, ReflowError
from tests import servers

USES: dict[str, Callable[[AwsSession], Any]] = {
    "region": lambda session: session.region,
    "profile": lambda session: session.profile(),
    "credentials": lambda session: session.credentials(),
    "frozen": lambda session: session.frozen_credentials(),
    "s3": lambda session: session.client("s3"),
    "dynamodb": lambda session: session.client("dynamodb", "us-west-2"),
}


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings at all but a file that may be written."""
    for name in (*servers.ACCESS, "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "config"


@pytest.mark.parametrize("use", USES)
def test_a_profile_that_is_not_there(no_settings: Path, monkeypatch: pytest.MonkeyPatch, use: str) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    with pytest.raises(SettingsError, match=r"nosuch.*correct AWS_PROFILE, or add the profile"):
        USES[use](AwsSession())


@pytest.mark.parametrize("use", USES)
def test_a_file_that_cannot_be_read(no_settings: Path, use: str) -> None:
    no_settings.write_text("[default\nregion = x")
    with pytest.raises(SettingsError, match=r"Unable to parse config file: .*: correct that file"):
        USES[use](AwsSession())


def test_a_key_without_a_secret(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some-key")
    with pytest.raises(SettingsError, match="both in one place") as caught:
        AwsSession().credentials()
    assert caught.value.kind is Kind.NOT_ALLOWED
    assert "some-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({}, "sa-east-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "ap-south-1"}, "ap-south-1"),
        ({"AWS_REGION": "ap-south-1", "AWS_DEFAULT_REGION": "eu-west-1"}, "ap-south-1"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
    ],
)
def test_the_region_is_what_the_variables_say_else_the_profile(
    no_settings: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    no_settings.write_text("[default]\nregion = sa-east-1\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    session = AwsSession()
    assert (session.region, session.setting("region")) == (region, region)
    assert session.client("sts").meta.region_name == region


def test_a_region_that_is_none(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us west")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us west")
    with pytest.raises(SettingsError, match="correct AWS_REGION"):
        AwsSession().client("s3")


def test_an_endpoint_that_is_none(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "localhost:8890")
    with pytest.raises(SettingsError, match="want http://HOST:PORT"):
        AwsSession().client("s3")


def test_credentials_that_a_program_does_not_give(no_settings: Path) -> None:
    no_settings.write_text("[default]\ncredential_process = /bin/false\n")
    with pytest.raises(SettingsError, match="renew the credentials") as caught:
        AwsSession().frozen_credentials()
    assert caught.value.kind is Kind.NOT_ALLOWED


async def test_stores_and_tables_say_so(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    with pytest.raises(ReflowError, match="correct AWS_PROFILE"):
        await S3Store(AwsSession()).bucket("b")
    client = DynamoDB(AwsSession())
    with pytest.raises(ReflowError, match="correct AWS_PROFILE"):
        await client.call("DescribeTable", {"TableName": "t"})
    client.close()


def test_variables_alone_may_give_credentials(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = AwsSession()
    assert session.environment_access() is None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some-key")
    assert session.environment_access() is None
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "some-secret")
    assert session.environment_access() == Access("some-key", "some-secret", None)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "some-token")
    assert session.environment_access() == Access("some-key", "some-secret", "some-token")
    found = session.frozen_credentials()
    assert found is not None
    assert session.environment_access() == Access(found.access_key, found.secret_key, found.token)
    # What ends has to be renewed: that is botocore's.
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2030-01-01T00:00:00Z")
    assert session.environment_access() is None


def test_without_files_there_is_no_profile(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert AwsSession().profile() == {}
    no_settings.write_text("[default]\nca_bundle = x\n")
    assert AwsSession().profile() == {"ca_bundle": "x"}
