"""Registries that ask who we are, fail, stall, lie or send us elsewhere."""

from __future__ import annotations

import base64
import json
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.imagestore.failure import ImageError
from reflow.imagestore.job import Job
from reflow.imagestore.manifest import SCHEMA_2
from reflow.imagestore.name import parse_image
from reflow.imagestore.registry import Registry as Client
from reflow.imagestore.registry import fetch_manifest
from reflow.imagestore.store import ImageStore
from reflow.imagestore.transport import Transport
from tests.imagetars import Made, digest_of, file, layer, serve
from tests.registry import Registry, running_registry
from tests.unit.imagestore.conftest import QUICK, NewStore

IMAGE = Made([layer(file("a", random.Random(1).randbytes(5000))), layer(file("b", b"2"))])

Behave = Callable[[BaseHTTPRequestHandler, str], bool]


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> bool:
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


def asked(registry: Registry, part: str) -> int:
    return len([each for each in registry.asked if part in each])


async def failure(store: ImageStore, name: str = "thing") -> ReflowError:
    with pytest.raises(ReflowError) as caught:
        await store.ensure(name)
    assert store.kept() == []
    return caught.value


@pytest.fixture(autouse=True)
def image(registry: Registry) -> None:
    serve(registry, IMAGE, "library/thing")


def log_in(tmp_path: Path, host: str, user: str = "me", password: str = "pw", **more: str) -> None:
    (tmp_path / "docker").mkdir(exist_ok=True)
    row = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode(), **more}
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {host: row}}))


# Trouble that passes, and trouble that does not.


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_trouble_that_passes_is_waited_for(
    registry: Registry, store: ImageStore, part: str, status: int
) -> None:
    registry.behave = on(part, lambda handler: answer(handler, status, Retry_After="0"), 2)
    assert (await store.ensure("thing")).id == IMAGE.id


@pytest.mark.parametrize(
    "part", ["/manifests/", f"/blobs/{IMAGE.id}", f"/blobs/{digest_of(IMAGE.packed[0])}"]
)
async def test_trouble_that_stays_is_given_up(
    registry: Registry, store: ImageStore, part: str, nothing_half_made: Callable[[], None]
) -> None:
    body = b'{"errors": [{"code": "UNKNOWN", "message": "Disk on fire"}]}'
    registry.behave = on(part, lambda handler: answer(handler, 500, body))
    err = await failure(store)
    assert err.kind is Kind.TOO_MANY_TRIES
    assert f"{registry.host}: status 500 (disk on fire) (the last of 3 tries)" in str(err)
    assert asked(registry, part) == 3
    nothing_half_made()


async def test_too_many_requests_say_what_helps(
    registry: Registry, store: ImageStore, tmp_path: Path
) -> None:
    registry.behave = on("/manifests/", lambda handler: answer(handler, 429, Retry_After="3600"))
    started = time.monotonic()
    err = await failure(store)
    assert time.monotonic() - started < 2
    assert err.kind is Kind.TOO_MANY_TRIES
    assert f"too many requests (after docker login {registry.host} it allows more)" in str(err)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, Kind.NOT_EXIST), (400, Kind.INVALID), (403, Kind.NOT_ALLOWED)]
)
async def test_what_will_not_pass_is_not_tried_again(
    registry: Registry, store: ImageStore, status: int, kind: Kind
) -> None:
    registry.behave = on("/blobs/", lambda handler: answer(handler, status))
    assert (await failure(store)).kind is kind
    assert asked(registry, f"/blobs/{IMAGE.id}") == 1


async def test_a_registry_that_is_not_there_is_tried_twice(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, new_store: NewStore
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
    err = await failure(new_store(), f"{host}/a/b")
    assert err.kind is Kind.NOT_EXIST
    assert f"{host} cannot be reached (connection refused)" in str(err)


async def test_a_host_that_has_no_address_is_named(new_store: NewStore) -> None:
    err = await failure(new_store(), "no-such-host.invalid/a/b")
    assert "no-such-host.invalid cannot be reached (" in str(err)


# Silence.


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("begins", [True, False])
async def test_silence_is_given_up(
    registry: Registry, new_store: NewStore, part: str, begins: bool, nothing_half_made: Callable[[], None]
) -> None:
    end = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> bool:
        if begins:
            answer(handler, 200, b"{", Content_Length="5000")
            handler.wfile.flush()
        end.wait(10)
        return True

    registry.behave = on(part, stall)
    store = new_store(QUICK._replace(stall_s=0.2))
    started = time.monotonic()
    try:
        err = await failure(store)
    finally:
        end.set()
    assert time.monotonic() - started < 8
    assert err.kind is Kind.TOO_MANY_TRIES
    assert f"{registry.host}: no answer in time (0.2 s without a byte) (the last of 3 tries)" in str(err)
    nothing_half_made()


async def test_slow_is_not_silent(registry: Registry, new_store: NewStore) -> None:
    blob = IMAGE.packed[0]

    def dribble(handler: BaseHTTPRequestHandler) -> bool:
        answer(handler, 200, Content_Length=str(len(blob)))
        for at in range(0, len(blob), 1000):
            time.sleep(0.25)
            handler.wfile.write(blob[at : at + 1000])
            handler.wfile.flush()
        return True

    registry.behave = on(f"/blobs/{digest_of(blob)}", dribble)
    store = new_store(QUICK._replace(stall_s=1.0))
    assert (await store.ensure("thing")).id == IMAGE.id
    assert asked(registry, "/blobs/") == 3


# Lies.


def sending(data: bytes) -> Callable[[BaseHTTPRequestHandler], bool]:
    return lambda handler: answer(handler, 200, data)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "what it sends as sha256:"),
        (lambda data: data[:-1], "bytes, want"),
        (lambda data: data + b"x" * 3_000_000, "has more than"),
        (lambda data: b"", "has only 0 bytes"),
    ],
)
async def test_what_has_another_digest_is_refused(
    registry: Registry,
    store: ImageStore,
    number: int,
    spoil: Callable[[bytes], bytes],
    text: str,
    nothing_half_made: Callable[[], None],
) -> None:
    blob = IMAGE.blobs[number]
    registry.behave = on(digest_of(blob), sending(spoil(blob)))
    err = await failure(store)
    assert err.kind is Kind.INTEGRITY
    assert text in str(err)
    assert digest_of(blob) in str(err)
    assert asked(registry, digest_of(blob)) == 3
    nothing_half_made()


async def test_a_broken_download_is_made_good(registry: Registry, store: ImageStore) -> None:
    blob = IMAGE.packed[0]
    cut = lambda handler: answer(handler, 200, blob[:100], Content_Length=str(len(blob)))  # noqa: E731

    def behave(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if digest_of(blob) not in path or asked(registry, digest_of(blob)) > 2:
            return False
        handler.close_connection = True
        return cut(handler)

    registry.behave = behave
    assert (await store.ensure("thing")).id == IMAGE.id
    assert asked(registry, digest_of(blob)) == 3


async def test_a_manifest_with_another_digest_is_refused(registry: Registry, store: ImageStore) -> None:
    other = Made([layer(file("evil"))])
    serve(registry, other, "library/other")
    registry.manifests[f"library/thing/manifests/{IMAGE.digest}"] = (SCHEMA_2, other.manifest)
    err = await failure(store, f"thing@{IMAGE.digest}")
    assert err.kind is Kind.INTEGRITY
    assert f"what it has as {IMAGE.digest} is {other.digest}" in str(err)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (
            Made([layer(file("../evil"))]),
            "layer 1 of 1: malformed: the path '../evil' leads out of the image",
        ),
        (Made([layer(), b"no tar" * 100], ["gzip", "tar"]), "layer 2 of 2: damaged: "),
        (Made([layer()], diff_ids=[]), "1 layers, and a configuration for 0"),
        (Made([layer()], diff_ids=["sha256:" + "1" * 64]), "layer 1 of 1: unpacks to sha256:"),
    ],
)
async def test_images_that_cannot_be_unpacked_are_refused(
    registry: Registry, store: ImageStore, image: Made, text: str, nothing_half_made: Callable[[], None]
) -> None:
    serve(registry, image, "library/bad")
    err = await failure(store, "bad")
    assert text in str(err)
    assert "registry index.docker.io: " in str(err)
    nothing_half_made()


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"{}", b'{"schemaVersion": 1, "fsLayers": []}', b""])
async def test_what_is_no_manifest_is_refused(registry: Registry, store: ImageStore, body: bytes) -> None:
    registry.behave = on("/manifests/", sending(body))
    err = await failure(store)
    assert err.kind in (Kind.INVALID, Kind.NOT_SUPPORTED)
    assert asked(registry, "/manifests/") == 1


async def test_a_manifest_without_end_is_refused(registry: Registry, store: ImageStore) -> None:
    registry.behave = on("/manifests/", sending(b" " * (5 << 20)))
    assert "the answer has more than 4194304 bytes" in str(await failure(store))


# Who we are.


async def test_tokens_are_fetched_as_nobody(registry: Registry, store: ImageStore) -> None:
    registry.token = "t1"
    assert (await store.ensure("thing")).id == IMAGE.id
    assert asked(registry, "token?") <= 3
    assert "service=here&scope=repository%3Alibrary%2Fthing%3Apull" in "".join(registry.asked)


async def test_a_token_that_has_expired_is_renewed(registry: Registry, store: ImageStore) -> None:
    registry.token = "t1"

    def expire(handler: BaseHTTPRequestHandler) -> bool:
        registry.token = "t2"
        return False

    registry.behave = on(f"/blobs/{IMAGE.id}", expire, 1)
    assert (await store.ensure("thing")).id == IMAGE.id


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
    assert (await store.ensure("thing")).id == IMAGE.id


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
        assert (await store.ensure("thing")).id == IMAGE.id
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
        serve(other, IMAGE, "library/thing")

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
        assert (await store.ensure("thing")).id == IMAGE.id
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
    assert (await store.ensure("thing")).id == IMAGE.id


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
    assert (await new_store().ensure("thing")).id == IMAGE.id
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
    assert (await new_store().ensure(f"{tls_registry}/library/thing")).id == IMAGE.id


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


# Keys.


def test_manifests_for_keys_are_asked_for_once(registry: Registry) -> None:
    registry.fail = 500
    with pytest.raises(ImageError, match="status 500"):
        fetch_manifest(parse_image("thing"), registry.host, 3)
    assert asked(registry, "/manifests/") == 1


def test_manifests_for_keys_come_in_time(registry: Registry) -> None:
    registry.behave = on("/manifests/", lambda handler: time.sleep(1) or True)  # type: ignore[func-returns-value]
    started = time.monotonic()
    with pytest.raises(ImageError, match="no answer in time"):
        fetch_manifest(parse_image("thing"), registry.host, 0.2)
    assert time.monotonic() - started < 0.9


def test_a_client_can_be_used_by_several_threads(registry: Registry) -> None:
    registry.token = "t1"
    client = Client(parse_image("thing"), registry.host, Transport(Job(), QUICK))
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(client.manifest("latest"))) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [IMAGE.manifest] * 6
    assert asked(registry, "token?") == 1
