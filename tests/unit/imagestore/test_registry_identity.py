"""Registries that ask who we are, or send us elsewhere; nothing secret goes where it should not."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from reflow.core.errors import Kind
from reflow.imagestore.store import ImageStore
from tests.imagetars import serve
from tests.registry import Behave, Registry, answer, asked, on, running_registry, sending
from tests.unit.imagestore.conftest import THING, NewStore, failure

pytestmark = pytest.mark.usefixtures("thing")


def log_in(tmp_path: Path, host: str, user: str = "me", password: str = "pw", **more: str) -> None:
    (tmp_path / "docker").mkdir(exist_ok=True)
    row = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode(), **more}
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {host: row}}))


# Who we are.


async def test_tokens_are_fetched_as_nobody(registry: Registry, store: ImageStore) -> None:
    registry.token = "t1"
    assert (await store.ensure("thing")).id == THING.id
    assert asked(registry, "token?") <= 3
    assert "service=here&scope=repository%3Alibrary%2Fthing%3Apull" in "".join(registry.asked)


async def test_a_token_that_has_expired_is_renewed(registry: Registry, store: ImageStore) -> None:
    registry.token = "t1"

    def expire(handler: BaseHTTPRequestHandler) -> bool:
        registry.token = "t2"
        return False

    registry.behave = on(f"/blobs/{THING.id}", expire, 1)
    assert (await store.ensure("thing")).id == THING.id


def with_password(registry: Registry, wanted: str) -> Behave:
    """Ask for a password, and for nothing else."""
    value = "Basic " + base64.b64encode(wanted.encode()).decode()

    def behave(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if handler.headers.get("Authorization") == value:
            return False
        return answer(handler, 401, WWW_Authenticate='Basic realm="here"')

    return behave


async def test_passwords_are_sent(registry: Registry, store: ImageStore, tmp_path: Path) -> None:
    registry.behave = with_password(registry, "me:pw")
    log_in(tmp_path, registry.host)
    assert (await store.ensure("thing")).id == THING.id


async def test_without_a_password_the_way_to_one_is_named(registry: Registry, store: ImageStore) -> None:
    registry.behave = with_password(registry, "me:pw")
    err = await failure(store)
    assert err.kind is Kind.NOT_ALLOWED
    assert f"access denied, or no such image: docker login {registry.host} if it needs a password" in str(err)
    assert asked(registry, "/manifests/") == 2


async def test_a_wrong_password_is_not_tried_again(
    registry: Registry, store: ImageStore, tmp_path: Path
) -> None:
    registry.behave = with_password(registry, "me:other")
    log_in(tmp_path, registry.host)
    err = await failure(store)
    assert err.kind is Kind.NOT_ALLOWED
    assert "access denied to me, or no such image" in str(err)
    assert asked(registry, "/manifests/") == 2


async def test_passwords_of_docker_hub_are_not_for_its_stand_in(
    registry: Registry, store: ImageStore, tmp_path: Path
) -> None:
    registry.behave = with_password(registry, "me:pw")
    log_in(tmp_path, "https://index.docker.io/v1/")
    assert (await failure(store)).kind is Kind.NOT_ALLOWED


async def test_identity_tokens_are_exchanged(registry: Registry, store: ImageStore, tmp_path: Path) -> None:
    registry.token = "short"
    forms: list[dict[str, list[str]]] = []

    def post(self: BaseHTTPRequestHandler) -> None:
        length = int(self.headers["Content-Length"])
        forms.append(parse_qs(self.rfile.read(length).decode()))
        answer(self, 200, b'{"access_token": "short"}')

    registry.RequestHandlerClass.do_POST = post  # type: ignore[attr-defined]
    try:
        log_in(tmp_path, registry.host, "<token>", "", identitytoken="long")
        assert (await store.ensure("thing")).id == THING.id
    finally:
        del registry.RequestHandlerClass.do_POST  # type: ignore[attr-defined]
    assert forms[0] == {
        "grant_type": ["refresh_token"],
        "client_id": ["reflow"],
        "service": ["here"],
        "scope": ["repository:library/thing:pull"],
        "refresh_token": ["long"],
    }


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": 3}'])
async def test_a_server_that_gives_no_token_is_named(
    registry: Registry, store: ImageStore, body: bytes
) -> None:
    registry.token = "t1"
    registry.behave = on("token?", sending(body))
    assert "/token gives no token" in str(await failure(store))


# Elsewhere.


async def test_redirections_are_followed_without_the_password(
    registry: Registry, store: ImageStore, tmp_path: Path
) -> None:
    log_in(tmp_path, registry.host)
    headers: list[str | None] = []
    with running_registry() as other:
        serve(other, THING, "library/thing")

        def note(handler: BaseHTTPRequestHandler, path: str) -> bool:
            headers.append(handler.headers.get("Authorization"))
            return False

        other.behave = note
        ask = with_password(registry, "me:pw")

        def behave(handler: BaseHTTPRequestHandler, path: str) -> bool:
            if ask(handler, path):
                return True
            return "/blobs/" in path and answer(handler, 307, Location=f"http://{other.host}/v2/{path}")

        registry.behave = behave
        assert (await store.ensure("thing")).id == THING.id
    assert headers == [None] * 3


async def test_redirections_on_the_same_host_keep_the_password(
    registry: Registry, store: ImageStore, tmp_path: Path
) -> None:
    log_in(tmp_path, registry.host)
    ask = with_password(registry, "me:pw")

    def behave(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if ask(handler, path):
            return True
        if "/blobs/" in path and "?" not in path:
            return answer(handler, 302, Location=f"/v2/{path}?again")
        handler.path = handler.path.partition("?")[0]
        if path.endswith("?again"):
            return answer(handler, 200, registry.blobs[path.rpartition("/")[2].removesuffix("?again")])
        return False

    registry.behave = behave
    assert (await store.ensure("thing")).id == THING.id


async def test_redirections_end(registry: Registry, store: ImageStore) -> None:
    registry.behave = on("/manifests/", lambda handler: answer(handler, 302, Location=handler.path))
    assert "too many redirections" in str(await failure(store))
    assert asked(registry, "/manifests/") == 6


@pytest.mark.parametrize("target", ["ftp://elsewhere/x", "file:///etc/passwd"])
async def test_redirections_lead_to_web_servers_only(
    registry: Registry, store: ImageStore, target: str
) -> None:
    registry.behave = on("/manifests/", lambda handler: answer(handler, 302, Location=target))
    assert "is no address of a web server" in str(await failure(store))


async def test_proxies_are_used(
    registry: Registry, new_store: NewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOW_REGISTRY", "registry.invalid")
    monkeypatch.setenv("http_proxy", f"http://us%20er:p%40ss@{registry.host}")
    monkeypatch.delenv("no_proxy", raising=False)
    seen: list[str | None] = []

    def behave(handler: BaseHTTPRequestHandler, path: str) -> bool:
        seen.append(handler.headers.get("Proxy-Authorization"))
        assert path.startswith("http://registry.invalid/v2/")
        handler.path = path.removeprefix("http://registry.invalid")
        reference = handler.path.removeprefix("/v2/")
        if "/blobs/" in reference:
            return answer(handler, 200, registry.blobs[reference.rpartition("/")[2]])
        return answer(handler, 200, registry.manifests[reference][1])

    registry.behave = behave
    assert (await new_store().ensure("thing")).id == THING.id
    assert set(seen) == {"Basic " + base64.b64encode(b"us er:p@ss").decode()}


# TLS.


@pytest.fixture
def tls_registry(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> str:
    """The registry, spoken to with TLS under the name ``here.localhost``, with a certificate of its own."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]
    names = ["-addext", "subjectAltName=DNS:here.localhost"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([*words, *names, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    registry.socket = context.wrap_socket(registry.socket, server_side=True)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, *more, **also: [(2, 1, 6, "", ("127.0.0.1", port))]
    )
    return f"here.localhost:{registry.server_address[1]}"


async def test_certificates_are_checked(tls_registry: str, new_store: NewStore) -> None:
    err = await failure(new_store(), f"{tls_registry}/library/thing")
    assert err.kind is Kind.PRECONDITION
    assert "its certificate is not trusted (self-signed certificate): set SSL_CERT_FILE" in str(err)


async def test_other_authorities_can_be_trusted(
    tls_registry: str, new_store: NewStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert (await new_store().ensure(f"{tls_registry}/library/thing")).id == THING.id


async def test_nothing_secret_leaves_tls(
    tls_registry: str,
    registry: Registry,
    new_store: NewStore,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    log_in(tmp_path, tls_registry)
    registry.token = "t1"
    err = await failure(new_store(), f"{tls_registry}/library/thing")
    assert "it wants the password sent to" in str(err)
    assert "without encryption" in str(err)
    registry.behave = on("", lambda handler: answer(handler, 302, Location="http://localhost/x"))
    err = await failure(new_store(), f"{tls_registry}/library/thing")
    assert "sends us to localhost without encryption" in str(err)
