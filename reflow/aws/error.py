"""What AWS says when it refuses, as errors by kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from reflow.aws.settings import is_settings_error, settings_error
from reflow.core.errors import Kind, ReflowError

_KINDS = {
    "NoSuchBucket": Kind.NOT_EXIST,
    "NoSuchKey": Kind.NOT_EXIST,
    "NoSuchUpload": Kind.NOT_EXIST,
    "NoSuchVersion": Kind.NOT_EXIST,
    "NotFound": Kind.NOT_EXIST,
    "AccessDenied": Kind.NOT_ALLOWED,
    "AllAccessDisabled": Kind.NOT_ALLOWED,
    "Forbidden": Kind.NOT_ALLOWED,
    "InvalidAccessKeyId": Kind.NOT_ALLOWED,
    "SignatureDoesNotMatch": Kind.NOT_ALLOWED,
    "InvalidToken": Kind.NOT_ALLOWED,
    "PreconditionFailed": Kind.PRECONDITION,
    "InvalidRequest": Kind.INVALID,
    "InvalidArgument": Kind.INVALID,
    "InvalidBucketName": Kind.INVALID,
    "EntityTooSmall": Kind.INVALID,
    "EntityTooLarge": Kind.INVALID,
    "KeyTooLongError": Kind.INVALID,
    "MethodNotAllowed": Kind.INVALID,
    "InvalidRange": Kind.INVALID,
    "BadDigest": Kind.TEMPORARY,
    "IncompleteBody": Kind.TEMPORARY,
    "BadRequest": Kind.TEMPORARY,
    "ConditionalRequestConflict": Kind.TEMPORARY,
    "InternalError": Kind.TEMPORARY,
    "RequestTimeout": Kind.TEMPORARY,
    "RequestTimeTooSkewed": Kind.TEMPORARY,
    "XAmzContentSHA256Mismatch": Kind.TEMPORARY,
    "ExpiredToken": Kind.UNAVAILABLE,
    "TokenRefreshRequired": Kind.UNAVAILABLE,
    "AccountProblem": Kind.UNAVAILABLE,
    "ServiceUnavailable": Kind.UNAVAILABLE,
    "OperationAborted": Kind.UNAVAILABLE,
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded",
            "PriorRequestNotComplete",
            "ProvisionedThroughputExceededException",
            "ReduceYourRequestRate",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "TooManyRequestsException",
        ),
        Kind.RESOURCES_EXHAUSTED,
    ),
}
_STATUSES = {
    400: Kind.INVALID,
    403: Kind.NOT_ALLOWED,
    404: Kind.NOT_EXIST,
    412: Kind.PRECONDITION,
    429: Kind.RESOURCES_EXHAUSTED,
    503: Kind.UNAVAILABLE,
}
_ELSEWHERE = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "301", "307"}
)
_PASSING = frozenset({Kind.TEMPORARY, Kind.TIMEOUT, Kind.UNAVAILABLE, Kind.RESOURCES_EXHAUSTED, Kind.NET})


class RefusedError(ReflowError):
    """An answer that says no: its code, or else its HTTP status as a text; and the status."""

    def __init__(self, kind: Kind, op: str, *subjects: object, code: str, status: int, cause: str) -> None:
        super().__init__(kind, op, *subjects, cause=cause)
        self.code = code
        self.status = status


def refusal(
    code: str, message: str, status: int, op: str, *subjects: object, region: str = ""
) -> RefusedError:
    """What an answer that says no means, by its code (or else its HTTP status) and message.

    ``region`` is where the answer says that the thing is.
    """
    code = code or str(status)
    cause = f"{code}: {message}" if message else code
    if code in _ELSEWHERE and (region or not code.startswith("Auth")):
        where = (
            f"it is in the region {region}" if region else "it is in another region or at another endpoint"
        )
        advice = f"set AWS_REGION={region or '...'}, and look whether AWS_ENDPOINT_URL_S3 is meant"
        cause = f"{where}: {advice} ({cause})"
        return RefusedError(Kind.INVALID, op, *subjects, code=code, status=status, cause=cause)
    kind = kind_of_code(code, status)
    return RefusedError(kind, op, *subjects, code=code, status=status, cause=cause)


def unreachable(op: str, what: str) -> str:
    """The cause of an error of the network, with what to do. ``op`` begins with the service's name."""
    return f"{what}: {reach(op)}"


def reach(op: str) -> str:
    """What to do about a server that cannot be reached."""
    service = op.partition(".")[0].upper()
    return f"check the network, and AWS_ENDPOINT_URL_{service} or AWS_ENDPOINT_URL if one is set"


def translate(err: Exception, op: str, *subjects: object) -> ReflowError:
    """Name what a botocore client raised. Source: blob/s3blob/s3blob.go, kind; base/cloud/awserr."""
    from botocore import exceptions as failures
    from botocore.parsers import ResponseParserError

    if isinstance(err, failures.ClientError):
        detail, metadata = err.response.get("Error", {}), err.response.get("ResponseMetadata", {})
        region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or detail.get("Region", "")
        code, message = str(detail.get("Code", "")), str(detail.get("Message", ""))
        status = metadata.get("HTTPStatusCode", 0)
        return refusal(code, message, status, op, *subjects, region=region)
    if isinstance(err, failures.NoCredentialsError | failures.PartialCredentialsError):
        cause = "no AWS credentials: set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return ReflowError(Kind.NOT_ALLOWED, op, *subjects, cause=cause)
    if isinstance(err, failures.ConnectTimeoutError | failures.ReadTimeoutError):
        return ReflowError(Kind.TIMEOUT, op, *subjects, cause=unreachable(op, str(err)))
    if isinstance(err, failures.HTTPClientError | failures.IncompleteReadError | failures.ConnectionError):
        return ReflowError(Kind.NET, op, *subjects, cause=unreachable(op, str(err)))
    if isinstance(err, ResponseParserError | failures.FlexibleChecksumError):
        return ReflowError(Kind.TEMPORARY, op, *subjects, cause=f"damaged on its way: {err}")
    if is_settings_error(err):
        return settings_error(err)
    if isinstance(err, failures.BotoCoreError):
        return ReflowError(Kind.INVALID, op, *subjects, cause=str(err))
    return ReflowError(Kind.NET, op, *subjects, cause=f"{type(err).__name__}: {err}")


@contextlib.contextmanager
def translating(op: str, *subjects: object) -> Iterator[None]:
    """Translate what a botocore client raises within."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (BotoCoreError, ClientError, HTTPError, ResponseParserError) as err:
        raise translate(err, op, *subjects) from err


def kind_of_code(code: str, status: int = 0) -> Kind:
    """The kind of a code that stands in an answer, or else of the answer's HTTP status."""
    if code in _KINDS:
        return _KINDS[code]
    status = int(code) if code.isascii() and code.isdigit() else status
    return _STATUSES.get(status) or (Kind.TEMPORARY if status >= 500 else Kind.OTHER)


def is_passing(error: ReflowError) -> bool:
    """Whether the same call may succeed a moment later."""
    return error.kind in _PASSING
