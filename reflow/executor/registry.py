"""Manifests of images, from registries that speak version 2 of Docker's protocol. All of it blocks."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import time
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from reflow.executor.image_name import HUB, ImageName

_HUB_HOST = "registry-1.docker.io"
_SCHEMA_2 = "application/vnd.docker.distribution.manifest.v2+json"
_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_OCI = "application/vnd.oci.image.manifest.v1+json"
_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_MAX_BYTES = 4 << 20
_MAX_REDIRECTS = 3
_LOCAL = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")
_CHALLENGE = re.compile(r'([a-z_]+)="([^"]*)"')


class RegistryError(Exception):
    """A registry could not be asked, or does not have the image; the text says which."""


class Manifest(NamedTuple):
    """A manifest's digest, and that of its configuration: the daemon's id of the image."""

    digest: str
    config_digest: str


class _Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def fetch_manifest(name: ImageName, hub: str, timeout_s: float) -> Manifest:
    """Ask for the amd64 manifest of an image. ``hub`` (host:port, plain HTTP) stands for Docker Hub.

    Source: runtime/resolver.go. Raises RegistryError.
    """
    try:
        return _Session(name, hub, time.monotonic() + timeout_s).manifest()
    except (OSError, http.client.HTTPException) as err:
        raise RegistryError(f"{name.registry}: {str(err) or type(err).__name__}") from err
    except (ValueError, KeyError, TypeError) as err:
        raise RegistryError(f"{name.registry} answers with what is no manifest: {err}") from err


class _Session:
    """Asks one registry about one repository, until a deadline."""

    def __init__(self, name: ImageName, hub: str, deadline_s: float) -> None:
        self._name = name
        self._deadline_s = deadline_s
        host = name.registry if name.registry != HUB else hub or _HUB_HOST
        is_plain = (name.registry == HUB and bool(hub)) or _LOCAL.fullmatch(host) is not None
        self._base = f"{'http' if is_plain else 'https'}://{host}"
        self._authorization = ""

    def manifest(self) -> Manifest:
        """The manifest of the name's tag."""
        tag = self._name.tag
        # As the original does: a registry then picks the amd64 manifest of a name with several.
        reply = self._manifest_reply(tag, _SCHEMA_2)
        if reply.status == 404:
            reply = self._manifest_reply(tag, ", ".join((_SCHEMA_2, _LIST, _OCI_INDEX, _OCI)))
        row = self._checked(reply)
        if "manifests" in row:
            digest = _amd64(row["manifests"])
            reply = self._manifest_reply(digest, ", ".join((_SCHEMA_2, _OCI)))
            row = self._checked(reply)
        return Manifest(f"sha256:{hashlib.sha256(reply.body).hexdigest()}", str(row["config"]["digest"]))

    def _checked(self, reply: _Reply) -> dict[str, Any]:
        if reply.status != 200:
            what = {401: "access denied", 403: "access denied", 404: "no such image"}.get(reply.status)
            raise RegistryError(f"{self._name.registry}: {what or f'status {reply.status}'}")
        row: dict[str, Any] = json.loads(reply.body)
        return row

    def _manifest_reply(self, reference: str, accept: str) -> _Reply:
        url = f"{self._base}/v2/{self._name.repository}/manifests/{quote(reference, safe=':')}"
        reply = self._get(url, {"Accept": accept, "Authorization": self._authorization})
        if reply.status == 401 and not self._authorization:
            self._authorization = self._authorize(reply.headers.get("www-authenticate", ""))
            reply = self._get(url, {"Accept": accept, "Authorization": self._authorization})
        return reply

    def _authorize(self, challenge: str) -> str:
        """Answer a registry's question who we are: by a stored password, or as nobody."""
        scheme, _, rest = challenge.partition(" ")
        password = stored_password(self._name.registry)
        basic = f"Basic {password}" if password else ""
        if scheme.lower() != "bearer":
            return basic
        words = dict(_CHALLENGE.findall(rest))
        query = {"service": words.get("service", ""), "scope": f"repository:{self._name.repository}:pull"}
        reply = self._get(f"{words['realm']}?{urlencode(query)}", {"Authorization": basic})
        if reply.status != 200:
            raise RegistryError(f"{self._name.registry}: access denied")
        row = json.loads(reply.body)
        return f"Bearer {row.get('token') or row['access_token']}"

    def _get(self, url: str, headers: dict[str, str]) -> _Reply:
        for _ in range(_MAX_REDIRECTS):
            reply = self._get_once(url, {name: value for name, value in headers.items() if value})
            if reply.status not in (301, 302, 307, 308):
                return reply
            location = reply.headers.get("location", "")
            if urlsplit(location).netloc not in ("", urlsplit(url).netloc):
                headers = {**headers, "Authorization": ""}  # not meant for another host
            url = location if "://" in location else self._base + location
        raise RegistryError(f"{self._name.registry}: too many redirects")

    def _get_once(self, url: str, headers: dict[str, str]) -> _Reply:
        parts = urlsplit(url)
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no answer in time")
        kind = http.client.HTTPConnection if parts.scheme == "http" else http.client.HTTPSConnection
        connection = kind(parts.netloc, timeout=left_s)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"User-Agent": "reflow", **headers})
            reply = connection.getresponse()
            fields = {name.lower(): value for name, value in reply.getheaders()}
            return _Reply(reply.status, fields, reply.read(_MAX_BYTES))
        finally:
            connection.close()


def _amd64(manifests: list[dict[str, Any]]) -> str:
    for each in manifests:
        platform = each.get("platform") or {}
        if platform.get("architecture") == "amd64" and platform.get("os") == "linux":
            return str(each["digest"])
    raise RegistryError("the image is not made for linux on amd64")


def stored_password(registry: str) -> str:
    """What ``docker login`` has stored for a registry (base64 of user:password), if it is in its own file."""
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(f"{directory}/config.json", "rb") as file:
            auths = json.load(file).get("auths") or {}
    except (OSError, ValueError, AttributeError):
        return ""
    names = (
        ("https://index.docker.io/v1/", "index.docker.io")
        if registry == HUB
        else (registry, f"https://{registry}")
    )
    for name in names:
        row = auths.get(name) or {}
        if row.get("auth"):
            return str(row["auth"])
        if row.get("username"):
            return base64.b64encode(f"{row['username']}:{row.get('password', '')}".encode()).decode()
    return ""
