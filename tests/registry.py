"""A container registry in this process: version 2 of Docker's protocol, over plain HTTP on loopback."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SCHEMA_2 = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


Behave = Callable[[BaseHTTPRequestHandler, str], bool]


class Registry(ThreadingHTTPServer):
    """``manifests``: path (``name/manifests/reference``) -> (media type, body).

    ``fail``: answer with that status. ``token``: ask for this bearer token, given out at ``/token``.
    ``behave``: is asked first, with the request and its path; true when it has answered.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.fail = 0
        self.token = ""
        self.behave: Behave | None = None
        self.asked: list[str] = []

    @property
    def host(self) -> str:
        return f"localhost:{self.server_address[1]}"

    def add_image(
        self, name: str, tag: str = "latest", files: dict[str, bytes] | None = None
    ) -> tuple[str, str]:
        """Make an image of some files; digests of its manifest and of its configuration."""
        layer = _tar(files or {"made-by": name.encode()})
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        packed = gzip.compress(layer, mtime=0)
        config_digest = self._add_blob(json.dumps(config).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": SCHEMA_2,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(self.blobs[config_digest]),
                "digest": config_digest,
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(packed),
                    "digest": self._add_blob(packed),
                }
            ],
        }
        body = json.dumps(manifest).encode()
        for reference in (tag, _digest(body)):
            self.manifests[f"{name}/manifests/{reference}"] = (SCHEMA_2, body)
        return _digest(body), config_digest

    def add_list(self, name: str, tag: str, manifests: list[dict[str, Any]]) -> str:
        """A tag with an image for each of several machines, that gives no other answer."""
        body = json.dumps({"schemaVersion": 2, "mediaType": LIST, "manifests": manifests}).encode()
        self.manifests[f"{name}/manifests/{tag}"] = (LIST, body)
        return _digest(body)

    def _add_blob(self, data: bytes) -> str:
        self.blobs[_digest(data)] = data
        return _digest(data)


class _Handler(BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v2/")
        self.server.asked.append(path)
        if self.server.behave is not None and self.server.behave(self, path):
            return
        if self.server.fail:
            self._answer(self.server.fail, "application/json", b'{"errors":[{"code":"UNAVAILABLE"}]}')
        elif self.path.startswith("/token"):
            self._answer(200, "application/json", json.dumps({"token": self.server.token}).encode())
        elif self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._challenge()
        else:
            self._find(path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _find(self, path: str) -> None:
        found = self.server.manifests.get(path)
        if path in ("", "/v2"):
            self._answer(200, "application/json", b"{}")
        elif found is not None and found[0] in ",".join(self.headers.get_all("Accept", [])):
            self._answer(200, found[0], found[1])
        elif "/blobs/" in path and path.rpartition("/")[2] in self.server.blobs:
            self._answer(200, "application/octet-stream", self.server.blobs[path.rpartition("/")[2]])
        else:
            self._answer(
                404,
                "application/json",
                b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}',
            )

    def _challenge(self) -> None:
        self.send_response(401)
        realm = f"http://{self.server.host}/token"
        self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="here"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", _digest(body))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def running_registry() -> Iterator[Registry]:
    """A registry that serves until the end of the block."""
    registry = Registry()
    thread = threading.Thread(target=registry.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.shutdown()
        registry.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> bool:
    """Answer a request; true."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", headers.get("Content_Length", str(len(body))))
    handler.end_headers()
    handler.wfile.write(body)
    return True


def on(part: str, action: Callable[[BaseHTTPRequestHandler], bool], times: int = 10**6) -> Behave:
    """Act on requests whose path has ``part``, so many times."""
    left = [times]

    def behave(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if part not in path or not left[0]:
            return False
        left[0] -= 1
        return action(handler)

    return behave


def sending(data: bytes) -> Callable[[BaseHTTPRequestHandler], bool]:
    """An action for `on`: answer with these bytes."""
    return lambda handler: answer(handler, 200, data)


def asked(registry: Registry, part: str) -> int:
    """How many requests had ``part`` in their path."""
    return len([each for each in registry.asked if part in each])


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
