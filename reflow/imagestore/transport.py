"""HTTP for registries and daemons: one request at a time, with patience that ends. All of it blocks."""

from __future__ import annotations

import base64
import errno
import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.job import Job, Limits

Connect = Callable[[SplitResult, float], http.client.HTTPConnection]
"""Makes a connection (not connected yet) for a URL and a timeout in seconds."""

_MAX_REDIRECTS = 5
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LOCAL = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")


def is_local(netloc: str) -> bool:
    """Tell whether a ``host:port`` is this machine: plain HTTP will do, and no proxy."""
    return _LOCAL.fullmatch(netloc) is not None


class Reply:
    """An answer whose body is still to be read. ``headers`` have lower-case names."""

    def __init__(self, response: http.client.HTTPResponse, read: Callable[[int], bytes]) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self._read = read

    def read(self, size: int) -> bytes:
        """At most that many bytes; nothing at the end, which may come early without notice."""
        return self._read(size)

    def read_all(self, limit: int) -> bytes:
        """The whole body. Raises ImageError when there is more than ``limit``, or less than was announced."""
        parts, count = [], 0
        while chunk := self.read(min(limit + 1, 1 << 20)):
            parts.append(chunk)
            count += len(chunk)
            if count > limit:
                raise ImageError(Kind.INVALID, f"the answer has more than {limit} bytes")
        announced = self.headers.get("content-length", "")
        if announced.isdigit() and count < int(announced):
            raise ImageError(Kind.NET, f"the answer ends after {count} of {announced} bytes")
        return b"".join(parts)


class Transport:
    """Sends requests on behalf of a job; ``deadline_s`` (monotonic) ends all of them."""

    def __init__(
        self, job: Job, limits: Limits, *, deadline_s: float | None = None, connect: Connect | None = None
    ) -> None:
        self._job = job
        self._limits = limits
        self._deadline_s = deadline_s
        self._connect = connect or _new_connection

    @contextmanager
    def open(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Iterator[Reply]:
        """Send a request and follow redirections; ``Authorization`` is for the first host only.

        This and reading the answer raise ImageError naming the host: NET, TIMEOUT, PRECONDITION for a
        certificate that is not trusted, INVALID for what is no address.
        """
        fields = {name: value for name, value in (headers or {}).items() if value}
        for _ in range(_MAX_REDIRECTS + 1):
            with self._exchange(method, url, fields, body) as reply:
                target = reply.headers.get("location", "") if reply.status in _REDIRECTS else ""
                if not target:
                    yield reply
                    return
            url, fields = _redirected(url, target, fields)
        raise ImageError(Kind.INVALID, f"{urlsplit(url).netloc}: too many redirections")

    @contextmanager
    def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> Iterator[Reply]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ImageError(Kind.INVALID, f"{url!r} is no address of a web server")
        with self._explaining(parts.netloc):
            connection = self._connect(parts, self._patience_s(self._limits.connect_s))
        with closing(connection), self._connected(parts.netloc, connection) as sock:
            with self._explaining(parts.netloc):
                sock.settimeout(self._patience_s(self._limits.stall_s))
                _send(connection, parts, method, headers, body)
                response = connection.getresponse()
            yield Reply(response, self._reader(parts.netloc, sock, response))

    @contextmanager
    def _connected(self, host: str, connection: http.client.HTTPConnection) -> Iterator[socket.socket]:
        with self._explaining(host):
            connection.connect()
        # The connection forgets its socket when the other side wants no second request.
        sock: socket.socket = connection.sock
        try:
            self._job.attach(sock)
            yield sock
        finally:
            self._job.detach(sock)

    def _reader(
        self, host: str, sock: socket.socket, response: http.client.HTTPResponse
    ) -> Callable[[int], bytes]:
        def read(size: int) -> bytes:
            with self._explaining(host):
                if not response.isclosed():
                    sock.settimeout(self._patience_s(self._limits.stall_s))
                return response.read1(size)

        return read

    @contextmanager
    def _explaining(self, host: str) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as err:
            self._job.check()
            raise _explained(host, err, self._limits) from err

    def _patience_s(self, at_most_s: float) -> float:
        self._job.check()
        if self._deadline_s is None:
            return at_most_s
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no answer in time")
        return min(left_s, at_most_s)


def _send(
    connection: http.client.HTTPConnection,
    parts: SplitResult,
    method: str,
    headers: dict[str, str],
    body: bytes | None,
) -> None:
    target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    fields = {"User-Agent": "reflow", **headers}
    if isinstance(connection, _ProxiedConnection):
        target = parts._replace(fragment="").geturl()
        fields |= connection.proxy_headers
    connection.request(method, target, body, fields)


def _redirected(url: str, target: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    old, new = urlsplit(url), urlsplit(urljoin(url, target))
    if old.scheme == "https" and new.scheme != "https":
        raise ImageError(Kind.NOT_ALLOWED, f"{old.netloc} sends us to {new.netloc} without encryption")
    if new.netloc != old.netloc:  # not meant for another host
        headers = {name: value for name, value in headers.items() if name != "Authorization"}
    return new.geturl(), headers


def _explained(host: str, err: Exception, limits: Limits) -> ImageError:
    if isinstance(err, ssl.SSLCertVerificationError):
        detail = (
            f"its certificate is not trusted ({err.verify_message}): set SSL_CERT_FILE to a file that has"
        )
        return ImageError(Kind.PRECONDITION, f"{host}: {detail} the certificate of its authority")
    if isinstance(err, TimeoutError):
        return ImageError(Kind.TIMEOUT, f"{host}: no answer in time ({limits.stall_s:g} s without a byte)")
    if isinstance(err, ssl.SSLError):
        return ImageError(Kind.NET, f"{host}: does not speak TLS as we do ({err.reason or err})")
    if isinstance(err, socket.gaierror | ConnectionRefusedError) or (
        isinstance(err, OSError) and err.errno in _UNREACHABLE
    ):
        detail = f"cannot be reached ({(err.strerror or str(err)).lower()})"
        return ImageError(Kind.NET, f"{host} {detail}", is_unreachable=True)
    if isinstance(err, OSError):
        return ImageError(Kind.NET, f"{host}: {(err.strerror or str(err) or type(err).__name__).lower()}")
    return ImageError(Kind.NET, f"{host}: {str(err) or type(err).__name__}")


class _ProxiedConnection(http.client.HTTPConnection):
    """Asks a proxy for what is on a plain HTTP server."""

    proxy_headers: dict[str, str]


def _new_connection(parts: SplitResult, timeout_s: float) -> http.client.HTTPConnection:
    proxy = _proxy(parts)
    if proxy is None:
        kind = http.client.HTTPConnection if parts.scheme == "http" else http.client.HTTPSConnection
        return kind(parts.netloc, timeout=timeout_s)
    headers = _proxy_headers(proxy)
    host = proxy.netloc.rpartition("@")[2]
    if parts.scheme == "http":
        connection = _ProxiedConnection(host, timeout=timeout_s)
        connection.proxy_headers = headers
        return connection
    tunnel = http.client.HTTPSConnection(host, timeout=timeout_s)
    tunnel.set_tunnel(parts.netloc, headers=headers)
    return tunnel


def _proxy(parts: SplitResult) -> SplitResult | None:
    """The proxy that the environment (``HTTPS_PROXY``, ``NO_PROXY`` and so on) asks us to use."""
    if is_local(parts.netloc):
        return None
    from urllib.request import getproxies, proxy_bypass

    url = getproxies().get(parts.scheme)
    if not url or proxy_bypass(parts.netloc):
        return None
    return urlsplit(url if "://" in url else f"http://{url}")


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
