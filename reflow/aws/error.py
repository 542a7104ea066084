"""What AWS says when it refuses, as errors by kind."""

from __future__ import annotations

from reflow.core.errors import Kind, ReflowError

_KINDS = {
    "NoSuchBucket": Kind.NOT_EXIST,
    "NoSuchKey": Kind.NOT_EXIST,
    "NoSuchUpload": Kind.TEMPORARY,
    "NoSuchVersion": Kind.NOT_EXIST,
    "NotFound": Kind.NOT_EXIST,
    "404": Kind.NOT_EXIST,
    "AccessDenied": Kind.NOT_ALLOWED,
    "AllAccessDisabled": Kind.NOT_ALLOWED,
    "403": Kind.NOT_ALLOWED,
    "Forbidden": Kind.NOT_ALLOWED,
    "InvalidAccessKeyId": Kind.NOT_ALLOWED,
    "SignatureDoesNotMatch": Kind.NOT_ALLOWED,
    "InvalidToken": Kind.NOT_ALLOWED,
    "PreconditionFailed": Kind.PRECONDITION,
    "ConditionalRequestConflict": Kind.PRECONDITION,
    "412": Kind.PRECONDITION,
    "InvalidRequest": Kind.INVALID,
    "InvalidArgument": Kind.INVALID,
    "InvalidBucketName": Kind.INVALID,
    "EntityTooSmall": Kind.INVALID,
    "EntityTooLarge": Kind.INVALID,
    "KeyTooLongError": Kind.INVALID,
    "MethodNotAllowed": Kind.INVALID,
    "InvalidRange": Kind.INVALID,
    "SlowDown": Kind.RESOURCES_EXHAUSTED,
    "Throttling": Kind.RESOURCES_EXHAUSTED,
    "ThrottlingException": Kind.RESOURCES_EXHAUSTED,
    "RequestLimitExceeded": Kind.RESOURCES_EXHAUSTED,
    "429": Kind.RESOURCES_EXHAUSTED,
    "BadDigest": Kind.TEMPORARY,
    "IncompleteBody": Kind.TEMPORARY,
    "BadRequest": Kind.TEMPORARY,
    "InternalError": Kind.TEMPORARY,
    "RequestTimeout": Kind.TEMPORARY,
    "RequestTimeTooSkewed": Kind.TEMPORARY,
    "XAmzContentSHA256Mismatch": Kind.TEMPORARY,
    "ExpiredToken": Kind.UNAVAILABLE,
    "TokenRefreshRequired": Kind.UNAVAILABLE,
    "AccountProblem": Kind.UNAVAILABLE,
    "ServiceUnavailable": Kind.UNAVAILABLE,
    "OperationAborted": Kind.UNAVAILABLE,
    "503": Kind.UNAVAILABLE,
}
_PASSING = frozenset({Kind.TEMPORARY, Kind.TIMEOUT, Kind.UNAVAILABLE, Kind.RESOURCES_EXHAUSTED, Kind.NET})


def translate(err: Exception, op: str, *subjects: object) -> ReflowError:
    """Name what a botocore client raised. Source: blob/s3blob/s3blob.go, kind; base/cloud/awserr."""
    from botocore import exceptions as failures

    if isinstance(err, failures.ClientError):
        detail = err.response.get("Error", {})
        code, message = str(detail.get("Code", "")), str(detail.get("Message", ""))
        status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return refusal(code, message, status, op, *subjects)
    if isinstance(err, failures.NoCredentialsError | failures.PartialCredentialsError):
        cause = "no AWS credentials: set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return ReflowError(Kind.NOT_ALLOWED, op, *subjects, cause=cause)
    if isinstance(err, failures.ConnectTimeoutError | failures.ReadTimeoutError):
        return ReflowError(Kind.TIMEOUT, op, *subjects, cause=str(err))
    if isinstance(err, failures.HTTPClientError | failures.IncompleteReadError | failures.ConnectionError):
        return ReflowError(Kind.NET, op, *subjects, cause=str(err))
    if isinstance(err, failures.BotoCoreError):
        return ReflowError(Kind.INVALID, op, *subjects, cause=str(err))
    return ReflowError(Kind.NET, op, *subjects, cause=f"{type(err).__name__}: {err}")


def refusal(code: str, message: str, status: int, op: str, *subjects: object) -> ReflowError:
    """The error that stands for an answer that says no; ``status`` is HTTP's."""
    kind = _KINDS.get(code) or (Kind.TEMPORARY if status >= 500 else Kind.OTHER)
    return ReflowError(kind, op, *subjects, cause=f"{code}: {message}" if message else code)


def kind_of_code(code: str) -> Kind:
    """The kind of a code that stands in an answer."""
    return _KINDS.get(code, Kind.OTHER)


def is_passing(error: ReflowError) -> bool:
    """Whether the same call may succeed a moment later."""
    return error.kind in _PASSING
