"""How a bucket's objects are reached: by requests of ours, or through boto3 where only that can.

Where the environment says it all (an endpoint and credentials), botocore is not even imported: that takes as
long as hundreds of small objects. Else it is asked for the endpoint, and for the credentials of each request.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reflow.aws.error import translating
from reflow.aws.httpconnection import Origin
from reflow.aws.session import AwsSession
from reflow.aws.sigv4 import Access, Scope
from reflow.blob.boto import open_boto
from reflow.blob.datapath import DataPath, OpenDataPath, Place
from reflow.blob.direct import DirectPath, Route
from reflow.core.errors import Kind, ReflowError

if TYPE_CHECKING:
    from ssl import SSLContext

VARIABLE = "REFLOW_S3_DATA_PATH"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")
_PLAIN_ENDPOINT = re.compile(r"http://[A-Za-z0-9.-]+(:[0-9]{1,4}|:[1-5][0-9]{4})?/?")
_MORE = (
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_DEFAULT_PROFILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
)
_PROBE = "where-are-objects-of-this-bucket"
_PROBING = threading.Lock()
_WITH_SESSIONS = "--x-s3"


def is_boto_wanted() -> bool:
    """Whether ``REFLOW_S3_DATA_PATH`` is ``boto``. Raises INVALID for other words."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "boto", "auto"):
        raise ReflowError(Kind.INVALID, "s3", cause=f"{VARIABLE} is {wanted}, want boto or auto")
    return wanted == "boto"


def open_path(place: Place) -> DataPath:
    """A data path: of ours where it can be and boto is not asked for. Blocks."""
    route = None if is_boto_wanted() else told_by_environment(place) or told_by_botocore(place)
    return open_boto(place) if route is None else DirectPath(route, place.bucket, place.blocking)


def open_direct(place: Place) -> DataPath:
    """A data path of ours. Blocks. Raises NOT_SUPPORTED where only boto can."""
    route = told_by_environment(place) or told_by_botocore(place)
    if route is None:
        cause = "what is configured (a proxy, or the kind of bucket) needs boto"
        raise ReflowError(Kind.NOT_SUPPORTED, "s3", place.bucket, cause=cause)
    return DirectPath(route, place.bucket, place.blocking)


def told_by_environment(place: Place) -> Route | None:
    """The route if variables say all of it, as botocore would read them."""
    environ = os.environ
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    token = environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN")
    if not _PLAIN_ENDPOINT.fullmatch(endpoint) or not key or not secret or not _is_plain(place.bucket):
        return None
    if any(environ.get(name) for name in _MORE) or _has_configuration() or _has_proxy(endpoint):
        return None
    access = Access(key, secret, token)
    return _route(f"{endpoint.rstrip('/')}/{place.bucket}/", place.region, None, lambda: access)


def told_by_botocore(place: Place) -> Route | None:
    """The route that boto3's client would take; None for buckets and proxies that it has to be left to."""
    if not _is_plain(place.bucket):
        return None
    client = place.session.client("s3", place.region)
    version = client.meta.config.signature_version
    if isinstance(version, str) and version != "s3v4":
        return None
    url = _url(client, place.bucket)
    if _has_proxy(url):
        return None
    tls = _tls(place.session) if url.startswith("https:") else None
    return _route(url, place.region, tls, lambda: _access(place.session))


class _FoundError(Exception):
    """The URL of a request that is not made."""


def _url(client: Any, bucket: str) -> str:
    """What URLs of a bucket's objects begin with: found by a request that is stopped before it is signed."""

    def stop(request: Any, **_: object) -> None:
        if request.url.endswith(_PROBE):
            raise _FoundError(request.url.removesuffix(_PROBE))

    event = "before-sign.s3.HeadObject"
    with _PROBING:
        client.meta.events.register(event, stop, unique_id=_PROBE)
        try:
            with translating("s3", bucket):
                client.head_object(Bucket=bucket, Key=_PROBE)
        except _FoundError as found:
            return str(found)
        finally:
            client.meta.events.unregister(event, stop, unique_id=_PROBE)
    raise AssertionError("botocore signs without saying so")


def _route(url: str, region: str, tls: SSLContext | None, access: Callable[[], Access | None]) -> Route:
    parts = urlsplit(url)
    origin = Origin(parts.hostname or "", parts.port or (80 if tls is None else 443), tls)
    return Route(origin, parts.netloc.rpartition("@")[2], parts.path, Scope(region, "s3"), access)


def _is_plain(bucket: str) -> bool:
    """Whether its requests are signed as any: not those of access points, and of buckets with sessions."""
    return bool(_PLAIN.fullmatch(bucket)) and not bucket.endswith(_WITH_SESSIONS)


def _has_configuration() -> bool:
    """Whether there is a file that may say more than the variables."""
    path = os.path.expanduser(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    return os.path.isfile(path)


def _has_proxy(url: str) -> bool:
    """Whether requests are to go through a proxy."""
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return False
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    return bool(getproxies().get(parts.scheme)) and not proxy_bypass(parts.netloc)


def _tls(session: AwsSession) -> SSLContext:
    """Trust as botocore's: in what ``AWS_CA_BUNDLE`` or the configuration names, or else in its own list."""
    import ssl

    from botocore.httpsession import get_cert_path

    named = session.setting("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    try:
        return ssl.create_default_context(cafile=named or get_cert_path(True))
    except OSError as err:
        raise ReflowError(Kind.INVALID, "s3", cause=f"cannot read certificates of {named}: {err}") from err


def _access(session: AwsSession) -> Access | None:
    frozen = session.frozen_credentials()
    return None if frozen is None else Access(frozen.access_key or "", frozen.secret_key or "", frozen.token)


if TYPE_CHECKING:
    _: OpenDataPath = open_path
