"""Who we are to a registry: what ``docker login`` stored, in Docker's configuration or with its helpers."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from typing import Any, NamedTuple

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.name import HUB

_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = frozenset({HUB, "docker.io", "registry-1.docker.io"})
_HELPER_TIMEOUT_S = 20.0
_TOKEN_USER = "<token>"


class Credential(NamedTuple):
    """A user with a password, or an identity token (OAuth's refresh token), or a bearer token; or nobody."""

    user: str = ""
    password: str = ""
    identity_token: str = ""
    bearer: str = ""

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header; empty without a password."""
        if not self.user:
            return ""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


def find_credential(host: str) -> Credential:
    """What is stored for a registry's host (``host:port``); an empty one when nothing is.

    A helper for this registry comes first, then the helper for all, then the file itself. Raises ImageError
    when a helper fails.
    """
    config = _docker_config()
    key = _HUB_KEY if host in _HUB_HOSTS else host
    helpers = _member(config, "credHelpers")
    helper = next((helpers[name] for name in (host, key) if isinstance(helpers.get(name), str)), None)
    if helper is None and isinstance(config.get("credsStore"), str):
        helper = config["credsStore"]
    if helper:
        found = _ask_helper(helper, key)
        if found != Credential():
            return found
    return _from_auths(_member(config, "auths"), host)


def _docker_config() -> dict[str, Any]:
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(f"{directory}/config.json", "rb") as file:
            config = json.load(file)
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _member(row: dict[str, Any], name: str) -> dict[str, Any]:
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def _from_auths(auths: dict[str, Any], host: str) -> Credential:
    wanted = _HUB_HOSTS if host in _HUB_HOSTS else {host}
    for name, row in auths.items():
        if _host_of(name) in wanted and isinstance(row, dict):
            found = _from_row(row)
            if found != Credential():
                return found
    return Credential()


def _host_of(name: str) -> str:
    """The host of a key of ``auths``, which may be a whole URL."""
    return name.partition("://")[2].partition("/")[0] if "://" in name else name.partition("/")[0]


def _from_row(row: dict[str, Any]) -> Credential:
    user, password = str(row.get("username") or ""), str(row.get("password") or "")
    if row.get("auth"):
        try:
            text = base64.b64decode(str(row["auth"])).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            text = ""
        user, _, password = text.partition(":")
        password = password.rstrip("\0")
    identity, bearer = str(row.get("identitytoken") or ""), str(row.get("registrytoken") or "")
    return Credential(user, password, identity, bearer)


def _ask_helper(helper: str, key: str) -> Credential:
    """Ask ``docker-credential-‹helper›``; nobody when it knows nothing of this registry."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        detail = f"{program} is not on PATH, and Docker's configuration names it for {key}"
        raise ImageError(Kind.NOT_ALLOWED, detail) from None
    except (OSError, subprocess.TimeoutExpired) as err:
        raise ImageError(Kind.NOT_ALLOWED, f"{program}: {err}") from err
    said = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
    if done.returncode:
        if "not found" in said:
            return Credential()
        raise ImageError(Kind.NOT_ALLOWED, f"{program} get {key}: {said or f'exit status {done.returncode}'}")
    try:
        row = json.loads(done.stdout)
        user, secret = str(row["Username"]), str(row["Secret"])
    except (ValueError, KeyError, TypeError):
        raise ImageError(
            Kind.NOT_ALLOWED, f"{program} get {key}: its answer is not as it should be"
        ) from None
    return Credential(identity_token=secret) if user == _TOKEN_USER else Credential(user, secret)
