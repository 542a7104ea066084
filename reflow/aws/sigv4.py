"""Signatures of requests to AWS, version 4, in their Authorization header."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_PAYLOAD = hashlib.sha256(b"").hexdigest()


class Access(NamedTuple):
    """Credentials of one moment."""

    key: str
    secret: str
    token: str | None

    def __repr__(self) -> str:
        return "Access(…)"


class Scope(NamedTuple):
    """What a signature is good for."""

    region: str
    service: str


def timestamp() -> str:
    """This moment as ``x-amz-date`` has it."""
    return _written(int(time.time()))


@lru_cache(maxsize=4)
def _written(second: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


def encoded(text: str, *, safe: str = "") -> str:
    """Percent-encoded once, as signatures want it; ``safe`` characters stay, as do ``-._~``.

    Raises UnicodeEncodeError for what is no text.
    """
    return quote(text, safe=safe)


def authorization(
    method: str, target: str, headers: Mapping[str, str], payload: str, access: Access, scope: Scope
) -> str:
    """The header's value for a request with these headers (lower case, ``x-amz-date`` and ``host`` included).

    ``target`` is an encoded path and, after ``?``, an encoded query, sorted, each name with its ``=``.
    ``payload`` is the SHA-256 of the body in hex, or `UNSIGNED_PAYLOAD`.
    """
    path, _, query = target.partition("?")
    ordered = sorted(headers)
    names = ";".join(ordered)
    lines = [f"{name}:{_folded(headers[name])}" for name in ordered]
    canonical = "\n".join([method, path, query, *lines, "", names, payload])
    moment = headers["x-amz-date"]
    limits = f"{moment[:8]}/{scope.region}/{scope.service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{limits}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(_key(access.secret, limits), text.encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={access.key}/{limits}, SignedHeaders={names}, Signature={signature}"


@lru_cache(maxsize=16)
def _key(secret: str, limits: str) -> bytes:
    """What signs for a day, a region and a service."""
    key = b"AWS4" + secret.encode()
    for part in limits.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _folded(value: str) -> str:
    """A header's value with single blanks."""
    return " ".join(value.split()) if " " in value or "\t" in value else value
