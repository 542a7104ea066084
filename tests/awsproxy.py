"""A proxy between a client and an imitation of AWS: records what is asked, and can stop things at a request.

Requests are passed on as they come, their signatures included (the Host header is left alone).
"""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers import MOTO

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}

_BUCKET_ACTIONS = {
    ("GET", "publicAccessBlock"): "s3:GetBucketPublicAccessBlock",
    ("PUT", "publicAccessBlock"): "s3:PutBucketPublicAccessBlock",
    ("GET", "encryption"): "s3:GetEncryptionConfiguration",
    ("PUT", "encryption"): "s3:PutEncryptionConfiguration",
    ("GET", "policy"): "s3:GetBucketPolicy",
    ("PUT", "policy"): "s3:PutBucketPolicy",
    ("DELETE", "policy"): "s3:DeleteBucketPolicy",
    ("GET", "versioning"): "s3:GetBucketVersioning",
    ("GET", "versions"): "s3:ListBucketVersions",
    ("GET", "lifecycle"): "s3:GetLifecycleConfiguration",
    ("PUT", "lifecycle"): "s3:PutLifecycleConfiguration",
    ("GET", "location"): "s3:GetBucketLocation",
    ("GET", "uploads"): "s3:ListBucketMultipartUploads",
    ("POST", "delete"): "s3:DeleteObject",
}
_PLAIN_BUCKET_ACTIONS = {
    "GET": "s3:ListBucket",
    "HEAD": "s3:ListBucket",
    "PUT": "s3:CreateBucket",
    "DELETE": "s3:DeleteBucket",
}
_OBJECT_ACTIONS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "POST": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}


def action_of(method: str, target: str, headers: Any, body: bytes) -> tuple[str, str]:
    """The IAM action that a request needs, and what it is about: a table, or a bucket with its key."""
    called = headers.get("X-Amz-Target", "")
    if called.startswith("DynamoDB_"):
        name = re.search(rb'"TableName": ?"([^"]+)"', body) or re.search(
            rb'"RequestItems": ?{"([^"]+)"', body
        )
        return f"dynamodb:{called.partition('.')[2]}", name[1].decode() if name else "*"
    form = parse_qs(body.decode("latin-1")) if b"Action=" in body else {}
    if form:
        service = re.search(r"/(\w+)/aws4_request", headers.get("Authorization", ""))
        return f"{service[1] if service else '?'}:{form['Action'][0]}", "*"
    return _s3_action(method, target)


def _s3_action(method: str, target: str) -> tuple[str, str]:
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    bucket, _, key = parts.path.lstrip("/").partition("/")
    if not bucket:
        return "s3:ListAllMyBuckets", "*"
    if key:
        is_abort = method == "DELETE" and "uploadId" in query
        return "s3:AbortMultipartUpload" if is_abort else _OBJECT_ACTIONS[method], f"{bucket}/{key}"
    for word in query:
        if (method, word) in _BUCKET_ACTIONS:
            return _BUCKET_ACTIONS[(method, word)], bucket
    return _PLAIN_BUCKET_ACTIONS[method], bucket


class AwsProxy:
    """Passes requests on to one server. ``asked`` has the actions that came, ``requests`` their headers.

    ``headers`` replace those of answers. ``refuse`` may say, of an action, which status and error code S3
    answers with instead (status 0: the connection is reset).
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.asked: list[tuple[str, str]] = []
        self.requests: list[Mapping[str, str]] = []
        self.before: Callable[[int], None] = lambda number: None
        self.after: Callable[[int], None] = lambda number: None
        self.headers: dict[str, str] = {}
        self.refuse: Callable[[tuple[str, str]], tuple[int, str] | None] = lambda action: None
        self._lock = threading.Lock()

    def note(self, action: tuple[str, str]) -> int:
        """Record a request; its number, from 1."""
        with self._lock:
            self.asked.append(action)
            return len(self.asked)


@contextmanager
def aws_proxy(upstream: str = MOTO) -> Iterator[tuple[AwsProxy, str]]:
    """A running proxy, and its URL."""
    proxy = AwsProxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.requests.append(self.headers)
            action = action_of(self.command, self.path, self.headers, body)
            number = proxy.note(action)
            proxy.before(number)
            refusal = proxy.refuse(action)
            if refusal is not None:
                self._refuse(*refusal)
                return
            upstream = http.client.HTTPConnection(*proxy.upstream, timeout=60)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers.items()))
                reply = upstream.getresponse()
                answer = reply.read()
            finally:
                upstream.close()
            proxy.after(number)
            self.send_response_only(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, proxy.headers.get(name, value))
            length = reply.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def _refuse(self, status: int, code: str) -> None:
            if not status:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            answer = f"<Error><Code>{code}</Code><Message>refused by a test</Message></Error>".encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients that are killed go away in mid-answer

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
