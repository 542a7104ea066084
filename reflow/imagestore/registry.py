"""Registries that speak version 2 of Docker's protocol (OCI's distribution). All of it blocks."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from reflow.core.errors import Kind
from reflow.imagestore.credential import Credential, find_credential
from reflow.imagestore.failure import ImageError
from reflow.imagestore.job import Job, Limits
from reflow.imagestore.manifest import (
    ALL_TYPES,
    SCHEMA_2,
    Index,
    Manifest,
    choose_entry,
    digest_of,
    parse_manifest,
)
from reflow.imagestore.name import HUB, ImageName
from reflow.imagestore.platform import AMD64, Platform
from reflow.imagestore.transport import Reply, Transport, is_local

_HUB_HOST = "registry-1.docker.io"
_CLIENT = "reflow"
_MAX_BYTES = 4 << 20
_CHALLENGE = re.compile(r'([a-z_]+)="([^"]*)"')
_KINDS = {401: Kind.NOT_ALLOWED, 403: Kind.NOT_ALLOWED, 404: Kind.NOT_EXIST, 429: Kind.UNAVAILABLE}


def fetch_manifest(name: ImageName, hub: str, timeout_s: float) -> Manifest:
    """Ask, once, for the manifest that a name stands for in cache keys: that for amd64.

    ``hub`` (host:port, plain HTTP) stands for Docker Hub. Raises ImageError.

    Source: runtime/resolver.go.
    """
    transport = Transport(Job(), Limits(stall_s=timeout_s), deadline_s=time.monotonic() + timeout_s)
    registry = Registry(name, hub, transport)
    try:
        # As the original does: a registry then picks the amd64 manifest of a name with several.
        body = registry.manifest(name.tag or name.digest, SCHEMA_2)
    except ImageError as err:
        if err.kind is not Kind.NOT_EXIST:
            raise
        body = registry.manifest(name.tag or name.digest, ALL_TYPES)
    return registry.settle(body, AMD64)[0]


class Registry:
    """What a registry has under one repository's name. Several threads may ask at once."""

    def __init__(self, name: ImageName, hub: str, transport: Transport) -> None:
        self._name = name
        self._transport = transport
        is_stand_in = name.registry == HUB and bool(hub)
        self.shown = hub if is_stand_in else name.registry
        self.host = name.registry if name.registry != HUB else hub or _HUB_HOST
        self.is_plain = is_stand_in or is_local(self.host)
        self._base = f"{'http' if self.is_plain else 'https'}://{self.host}/v2/{name.repository}"
        self._authorization = ""
        self._credential: Credential | None = None
        self._lock = threading.Lock()

    def manifest(self, reference: str, accept: str = ALL_TYPES) -> bytes:
        """The manifest or index of a tag or a digest; a digest is checked."""
        url = f"{self._base}/manifests/{quote(reference, safe=':')}"
        with self._get(url, {"Accept": accept}) as reply:
            body = reply.read_all(_MAX_BYTES)
        if reference.startswith("sha256:") and digest_of(body) != reference:
            detail = f"what it has as {reference} is {digest_of(body)}"
            raise ImageError(Kind.INTEGRITY, f"{self.shown}: {detail}")
        return body

    def settle(self, body: bytes, platform: Platform) -> tuple[Manifest, bytes]:
        """The manifest for a machine, of one that was fetched or of the index that it is; and its bytes."""
        found = self._read(body)
        if isinstance(found, Index):
            body = self.manifest(choose_entry(found.entries, platform))
            found = self._read(body)
            if isinstance(found, Index):
                raise ImageError(Kind.INVALID, f"{self.shown}: an index of indexes")
        return found, body

    @contextmanager
    def blob(self, digest: str) -> Iterator[Reply]:
        """Open a layer or a configuration; the reader checks it."""
        with self._get(f"{self._base}/blobs/{digest}", {}) as reply:
            yield reply

    def _read(self, body: bytes) -> Manifest | Index:
        try:
            return parse_manifest(body)
        except ImageError as err:
            raise ImageError(err.kind, f"{self.shown}: {err}") from err

    @contextmanager
    def _get(self, url: str, headers: dict[str, str]) -> Iterator[Reply]:
        """Ask, and answer the question who we are when it comes (it comes again when a token is too old)."""
        used = self._authorization
        with self._transport.open("GET", url, {**headers, "Authorization": used}) as reply:
            if reply.status != 401:
                yield self._checked(reply)
                return
            challenge = reply.headers.get("www-authenticate", "")
        with self._transport.open(
            "GET", url, {**headers, "Authorization": self._renew(used, challenge)}
        ) as reply:
            yield self._checked(reply)

    def _checked(self, reply: Reply) -> Reply:
        if reply.status == 200:
            return reply
        kind = _KINDS.get(reply.status, Kind.UNAVAILABLE if reply.status >= 500 else Kind.INVALID)
        wait = reply.headers.get("retry-after", "")
        raise ImageError(
            kind, f"{self.shown}: {self._what(reply)}", wait_s=float(wait) if wait.isdigit() else 0
        )

    def _what(self, reply: Reply) -> str:
        """What an answer that is none means, and what the registry says to it."""
        said = _message(reply)
        match reply.status:
            case 401 | 403:
                return self._denial()
            case 404:
                return "no such image"
            case 429:
                hint = "" if self._is_known else f" (after docker login {self.shown} it allows more)"
                return f"too many requests{hint}{said}"
            case status:
                return f"status {status}{said}"

    @property
    def _is_known(self) -> bool:
        return self._credential is not None and self._credential != Credential()

    def _denial(self) -> str:
        if self._is_known:
            user = self._credential.user if self._credential is not None else ""
            return f"access denied{f' to {user}' if user else ''}, or no such image"
        return f"access denied, or no such image: docker login {self.shown} if it needs a password"

    def _renew(self, used: str, challenge: str) -> str:
        """A new value of ``Authorization``; one thread fetches it for all."""
        with self._lock:
            if self._authorization == used:
                self._authorization = self._authorize(challenge)
            return self._authorization

    def _authorize(self, challenge: str) -> str:
        """Answer a registry's question who we are: by what is stored, or as nobody."""
        if self._credential is None:
            self._credential = find_credential(self.host)
        scheme, _, rest = challenge.partition(" ")
        if self._credential.bearer:
            return f"Bearer {self._credential.bearer}"
        if scheme.lower() != "bearer":
            return self._credential.basic
        words = dict(_CHALLENGE.findall(rest))
        realm = words.get("realm", "")
        if self._is_known and urlsplit(realm).scheme != "https" and not self.is_plain:
            detail = f"it wants the password sent to {urlsplit(realm).netloc} without encryption"
            raise ImageError(Kind.NOT_ALLOWED, f"{self.shown}: {detail}")
        return f"Bearer {self._token(realm, words.get('service', ''), self._credential)}"

    def _token(self, realm: str, service: str, credential: Credential) -> str:
        query = {"service": service, "scope": f"repository:{self._name.repository}:pull"}
        if credential.identity_token:
            form = {"grant_type": "refresh_token", "client_id": _CLIENT, **query}
            body = urlencode({**form, "refresh_token": credential.identity_token}).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            asking = self._transport.open("POST", realm, headers, body)
        else:
            mark = "&" if urlsplit(realm).query else "?"
            headers = {"Authorization": credential.basic}
            asking = self._transport.open("GET", f"{realm}{mark}{urlencode(query)}", headers)
        with asking as reply:
            row = _json(self._checked(reply))
        token = row.get("token") or row.get("access_token")
        if not isinstance(token, str):
            raise ImageError(Kind.INVALID, f"{self.shown}: {realm} gives no token")
        return token


def _json(reply: Reply) -> dict[str, Any]:
    try:
        row = json.loads(reply.read_all(_MAX_BYTES))
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _message(reply: Reply) -> str:
    """What a registry adds to a refusal, in parentheses."""
    try:
        errors = _json(reply).get("errors") or [{}]
        text = str(errors[0].get("message") or errors[0].get("code") or "")
    except (ImageError, AttributeError, KeyError, IndexError, TypeError):
        return ""
    return f" ({text[:200].strip().lower()})" if text.strip() else ""
