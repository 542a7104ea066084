"""What AWS says when it refuses."""

from __future__ import annotations

import pytest
from botocore import exceptions as failures
from botocore.parsers import ResponseParserError

from reflow.aws.error import is_passing, kind_of_code, refusal, translate, translating
from reflow.aws.settings import SettingsError
from reflow.core.errors import Kind, ReflowError


@pytest.mark.parametrize(
    "code",
    [
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
        "429",
    ],
)
def test_throttling_is_known_by_all_its_names(code: str) -> None:
    error = refusal(code, "", 400, "s3.get_object", "s3://b/k")
    assert (error.kind, is_passing(error)) == (Kind.RESOURCES_EXHAUSTED, True)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("", 429, Kind.RESOURCES_EXHAUSTED),
        ("Unheard", 503, Kind.UNAVAILABLE),
        ("Unheard", 500, Kind.TEMPORARY),
        ("Unheard", 507, Kind.TEMPORARY),
        ("Unheard", 409, Kind.OTHER),
        ("Unheard", 403, Kind.NOT_ALLOWED),
        ("", 404, Kind.NOT_EXIST),
        ("404", 404, Kind.NOT_EXIST),
        ("", 412, Kind.PRECONDITION),
        ("400", 400, Kind.INVALID),
        ("NoSuchKey", 404, Kind.NOT_EXIST),
        ("NoSuchUpload", 404, Kind.NOT_EXIST),
        ("ConditionalRequestConflict", 409, Kind.TEMPORARY),
        ("ExpiredToken", 400, Kind.UNAVAILABLE),
        ("RequestTimeTooSkewed", 403, Kind.TEMPORARY),
    ],
)
def test_a_refusal_has_the_kind_of_its_code_or_else_of_its_status(code: str, status: int, kind: Kind) -> None:
    error = refusal(code, "text", status, "op")
    assert (error.kind, error.status) == (kind, status)
    assert str(error).endswith(f"{code or status}: text")


def test_a_code_that_is_no_number_for_int_has_no_kind() -> None:
    assert kind_of_code("²") is Kind.OTHER


@pytest.mark.parametrize(
    ("code", "region"), [("PermanentRedirect", "eu-west-1"), ("AuthorizationHeaderMalformed", "eu-west-1")]
)
def test_what_is_elsewhere_is_said_to_be(code: str, region: str) -> None:
    error = refusal(code, "", 301, "op", "s3://b/k", region=region)
    assert "it is in the region eu-west-1: set AWS_REGION=eu-west-1" in str(error)
    assert not is_passing(error)
    assert "another region" in str(refusal("301", "", 301, "op"))


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (failures.ReadTimeoutError(endpoint_url="u"), Kind.TIMEOUT),
        (failures.EndpointConnectionError(endpoint_url="u"), Kind.NET),
        (failures.ResponseStreamingError(error="e"), Kind.NET),
        (failures.NoCredentialsError(), Kind.NOT_ALLOWED),
        (failures.CredentialRetrievalError(provider="p", error_msg="e"), Kind.NOT_ALLOWED),
        (failures.ParamValidationError(report="r"), Kind.INVALID),
        (ResponseParserError("no XML"), Kind.TEMPORARY),
    ],
)
def test_what_botocore_raises_has_a_kind(raised: Exception, kind: Kind) -> None:
    assert translate(raised, "op").kind is kind
    with pytest.raises(ReflowError), translating("op"):
        raise raised


def test_settings_that_are_found_wrong_in_a_call_say_what_to_do() -> None:
    error = translate(failures.ProfileNotFound(profile="nosuch"), "op")
    assert isinstance(error, SettingsError)
    assert "correct AWS_PROFILE" in str(error)
