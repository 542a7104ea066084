"""Control calls at AWS for the setup verbs and the doctor: tried a few times, their errors by code.

Blocking, on purpose: these commands do one thing after the other. botocore is imported on use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reflow.aws.error import reach
from reflow.core.errors import Kind, ReflowError

if TYPE_CHECKING:
    from reflow.aws.session import AwsSession

TRIES = 4
_FIRST_WAIT_S = 0.25

_DENIED = frozenset(
    {
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
_PASSING = frozenset(
    {
        "ContinuousBackupsUnavailableException",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InvalidGroup.NotFound",  # right after it was made
        "LimitExceededException",  # too many tables are about to change
        "OperationAborted",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_MISSING = frozenset(
    {"404", "NoSuchBucket", "NotFound", "ResourceNotFoundException", "InvalidGroup.NotFound"}
)
_UNSUPPORTED = frozenset(
    {"MethodNotAllowed", "NotImplemented", "UnknownOperationException", "XNotImplemented", "501", "405"}
)

_HAS = {
    "describe_security_groups": "SecurityGroups",
    "describe_table": "Table",
    "describe_vpcs": "Vpcs",
    "get_caller_identity": "Arn",
}
"""What answers have, whatever they say: a server of another kind answers without."""


class CallError(ReflowError):
    """A call that failed for good.

    ``code`` is the service's, or the name of the exception; ``date`` the server's time, as it says it.
    ``is_answer``: the server said no; otherwise there was no answer that could be understood. ``fault`` is
    the error's text without the ``advice`` on what to do.
    """

    def __init__(
        self,
        call: str,
        code: str,
        message: str,
        status: int = 0,
        date: str = "",
        *,
        is_answer: bool = True,
        advice: str = "",
    ) -> None:
        self.is_answer = is_answer
        self.code = code
        self.status = status
        self.date = date
        text = code if message in ("", "None") or message.startswith("<") else message
        detail = text if code in text or code.isdigit() else f"{text} ({code})"
        super().__init__(_kind(code), call, cause=detail)
        self.fault = str(self)
        if advice:
            super().__init__(_kind(code), call, cause=f"{detail}: {advice}")

    @property
    def is_denied(self) -> bool:
        """Whether we may not do this."""
        return self.code in _DENIED

    @property
    def is_missing(self) -> bool:
        """Whether the thing is not there."""
        return self.code in _MISSING

    @property
    def is_passing(self) -> bool:
        """Whether trying again soon can help."""
        return self.code in _PASSING or (self.status >= 500 and self.code not in _UNSUPPORTED)

    @property
    def is_unsupported(self) -> bool:
        """Whether the server does not know such calls."""
        return self.code in _UNSUPPORTED or self.status == 501


def _kind(code: str) -> Kind:
    if code in _DENIED:
        return Kind.NOT_ALLOWED
    return Kind.NOT_EXIST if code in _MISSING else Kind.OTHER


class Cloud:
    """Calls by service and operation, through one session."""

    def __init__(
        self, session: AwsSession, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.session = session
        self.say = say
        self.sleep = sleep

    @property
    def region(self) -> str:
        """The region in which things are made."""
        return self.session.region

    @property
    def partition(self) -> str:
        """aws, aws-cn or aws-us-gov: what names of resources begin with, behind ``arn:``."""
        from botocore.exceptions import UnknownRegionError

        try:
            return str(self.session.botocore.get_partition_for_region(self.region))
        except UnknownRegionError:  # servers other than AWS's call their regions as they like
            return "aws"

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """What the service answers. Raises CallError.

        It may be carried out more than once: an answer can be lost.
        """
        for attempt in range(TRIES):
            try:
                return call_once(self.session, service, operation, **parameters)
            except CallError as err:
                if not err.is_passing or attempt == TRIES - 1:
                    raise
            self.sleep(_FIRST_WAIT_S * 2**attempt)
        raise AssertionError("not reached")

    def is_aws(self, service: str) -> bool:
        """Whether the service is that of AWS, not a server of the same language."""
        host = urlsplit(self._endpoint(service)).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))

    def is_encrypted(self, service: str) -> bool:
        """Whether we talk to the service by TLS."""
        return self._endpoint(service).startswith("https:")

    def _endpoint(self, service: str) -> str:
        return str(self.session.client(service).meta.endpoint_url)


def require_credentials(session: AwsSession) -> str:
    """Where credentials come from. Raises ReflowError when there are none, or AWS's files are wrong."""
    from reflow.aws.settings import SettingsError

    try:
        return str(session.credentials().method)
    except SettingsError as err:
        raise CallError("aws", err.code, str(err.cause)) from err


def call_once(session: AwsSession, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
    """One attempt. Raises CallError."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    from reflow.aws.settings import SettingsError

    name = f"{service}.{operation}"
    try:
        answer: dict[str, Any] = getattr(session.client(service), operation)(**parameters)
    except ClientError as err:
        details = err.response.get("Error", {})
        metadata = err.response.get("ResponseMetadata", {})
        status, date = metadata.get("HTTPStatusCode", 0), metadata.get("HTTPHeaders", {}).get("date", "")
        message = str(details.get("Message") or "").split("\n", 1)[0]
        raise CallError(name, str(details.get("Code") or status), message, status, date) from err
    except SettingsError as err:
        raise CallError(name, err.code, str(err.cause)) from err
    except BotoCoreError as err:
        is_network = isinstance(err, HTTPClientError | ConnectionError)
        advice = reach(name) if is_network else ""
        code, status = type(err).__name__, _status_of(err)
        raise CallError(name, code, str(err), status, is_answer=False, advice=advice) from err
    except (ResponseParserError, HTTPError, KeyError) as err:  # botocore trips over what is not AWS's
        raise not_understood(name, type(err).__name__) from err
    if operation in _HAS and _HAS[operation] not in answer:
        raise not_understood(name, "InvalidResponse")
    return answer


def not_understood(name: str, code: str) -> CallError:
    """The error for an answer that AWS would not give."""
    fault = "the answer is not one of AWS's: this is another server, or a proxy in the way"
    return CallError(name, code, fault, 502, is_answer=False, advice=reach(name))


def _status_of(error: Exception) -> int:
    """503 for connections that fail, which may pass; 0 for what is wrong on our side."""
    from botocore.exceptions import HTTPClientError, ReadTimeoutError

    return 503 if isinstance(error, HTTPClientError | ReadTimeoutError) else 0
