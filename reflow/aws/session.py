"""A session: who we are at AWS, in which region, at which endpoints.

Credentials come from wherever boto3 finds them (environment, profiles, SSO, roles, web identity, instances)
and are refreshed by it. Endpoints: ``AWS_ENDPOINT_URL`` and ``AWS_ENDPOINT_URL_<SERVICE>`` as botocore reads
them.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from reflow.aws.settings import usable
from reflow.aws.sigv4 import Access
from reflow.core.errors import Kind, ReflowError

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.session import Session

DEFAULT_REGION = "us-west-2"
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
_PROFILE = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")


class AwsSession:
    """One per process. May be used from threads; what it makes is made once.

    Settings that cannot be used are a SettingsError wherever they are met.
    """

    def __init__(self, *, region: str = "", connections: int = 64) -> None:
        self._region = region
        self._connections = connections
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._clients: dict[tuple[str, str], Any] = {}

    @property
    def botocore(self) -> Session:
        """The botocore session behind it."""
        with self._lock:
            return self._open()

    def _open(self) -> Session:
        if self._session is None:
            import botocore.session

            self._session = botocore.session.get_session()
            if region := os.environ.get("AWS_REGION"):  # botocore does not read it; others of AWS's tools do
                self._session.set_config_variable("region", region)
        return self._session

    @property
    def region(self) -> str:
        """The region that is configured, ``AWS_REGION`` before all else, or `DEFAULT_REGION`."""
        given = self._region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return given or self.setting("region") or DEFAULT_REGION

    def setting(self, name: str) -> str:
        """A setting by botocore's name, from the environment or AWS's files; empty when there is none."""
        with usable():
            return str(self.botocore.get_config_variable(name) or "")

    def profile(self) -> dict[str, Any]:
        """What AWS's file says of the profile in use."""
        if not any(os.environ.get(name) for name in _PROFILE) and not _has_configuration():
            return {}
        with usable():
            return dict(self.botocore.get_scoped_config())

    def credentials(self) -> Credentials:
        """Where credentials come from; ask it for frozen ones for every request, it refreshes them.

        Raises NOT_ALLOWED when there are none.
        """
        found = self._credentials()
        if found is None:
            cause = (
                "no AWS credentials: set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
                " or run aws configure"
            )
            raise ReflowError(Kind.NOT_ALLOWED, "aws", cause=cause)
        return found

    def environment_access(self) -> Access | None:
        """Credentials that variables alone give, for good; None when botocore has to be asked.

        It would take them before all others.
        """
        environ = os.environ
        key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if not key or not secret or environ.get("AWS_CREDENTIAL_EXPIRATION"):
            return None
        return Access(key, secret, environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN"))

    def frozen_credentials(self) -> ReadOnlyCredentials | None:
        """Credentials for one request, fresh; None when there are none. It may block."""
        found = self._credentials()
        with usable():
            return None if found is None else found.get_frozen_credentials()

    def _credentials(self) -> Credentials | None:
        with usable():
            return self.botocore.get_credentials()

    def client(self, service: str, region: str = "") -> Any:
        """A boto client, made once for each service and region; its calls block. It tries each call once.

        Retries are ours (`reflow.aws.retry`).
        """
        from botocore import UNSIGNED
        from botocore.config import Config

        region = region or self.region
        special: dict[str, Any] = {}
        if service == "s3":
            # Checksums of our own are sent: not every server knows those of today's SDKs.
            special = {
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            }
            if self._credentials() is None:
                special["signature_version"] = UNSIGNED  # public buckets need no credentials
            if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
                special["s3"] = {"addressing_style": "path"}
        with self._lock:
            key = (service, region)
            if key not in self._clients:
                config = Config(
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    max_pool_connections=self._connections,
                    **special,
                )
                with usable():
                    self._clients[key] = self._open().create_client(
                        service, region_name=region, config=config
                    )
            return self._clients[key]

    def close(self) -> None:
        """Let go of connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def _has_configuration() -> bool:
    """Whether there is a file of AWS's that may have a profile."""
    path = os.path.expanduser(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    return os.path.isfile(path)
