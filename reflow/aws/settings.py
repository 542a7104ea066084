"""What is wrong with AWS's settings (files, profiles, the region, sources of credentials), and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from reflow.core.errors import Kind, ReflowError

_LOG_IN = "renew the credentials, or log in again (aws sso login)"
_ADVICE = {
    "ConfigNotFound": "correct AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE",
    "ConfigParseError": "correct that file",
    "CredentialRetrievalError": _LOG_IN,
    "InvalidRegionError": "correct AWS_REGION, or the region of the profile",
    "NoCredentialsError": "set AWS_PROFILE, or run aws configure",
    "PartialCredentialsError": "give the key and the secret, both in one place",
    "ProfileNotFound": "correct AWS_PROFILE, or add the profile (aws configure --profile NAME)",
    "SSOTokenLoadError": _LOG_IN,
    "TokenRetrievalError": _LOG_IN,
    "UnauthorizedSSOTokenError": _LOG_IN,
    "ValueError": "correct AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_...: want http://HOST:PORT or https://HOST",
}
_CREDENTIALS = ("Credential", "SSO", "Token")


class SettingsError(ReflowError):
    """Settings that cannot be used: what is wrong, botocore's name (``code``) of it, and what to do."""

    def __init__(self, kind: Kind, code: str, fault: str, advice: str) -> None:
        super().__init__(kind, "aws", cause=f"{fault}: {advice}")
        self.code = code
        self.fault = fault
        self.advice = advice


def is_settings_error(err: Exception) -> bool:
    """Whether what botocore raised is about settings."""
    return type(err).__name__ in _ADVICE


def settings_error(err: Exception) -> SettingsError:
    """The error that says what to do about it."""
    from botocore.exceptions import BotoCoreError

    code = type(err).__name__ if isinstance(err, BotoCoreError) else "ValueError"
    advice = _ADVICE.get(code, "look at the AWS_... variables and at ~/.aws")
    kind = Kind.NOT_ALLOWED if any(word in code for word in _CREDENTIALS) else Kind.INVALID
    return SettingsError(kind, code, str(err), advice)


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """Say what to do about settings that botocore cannot use."""
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except (BotoCoreError, ValueError) as err:
        raise settings_error(err) from err
