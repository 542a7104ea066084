"""What docker login stored, and the helpers it stored it with."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from reflow.core.errors import Kind
from reflow.imagestore.credential import Credential, find_credential
from reflow.imagestore.failure import ImageError


class Docker:
    """A configuration of Docker's, and helpers on PATH."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def configure(self, **config: Any) -> None:
        (self.base / "config.json").write_text(json.dumps(config))

    def helper(self, name: str, script: str) -> None:
        path = self.base / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\nread -r server\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Docker(tmp_path)


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("localhost:5001", "localhost:5001"),
        ("https://quay.io", "quay.io"),
        ("https://quay.io/v2/", "quay.io"),
        ("http://quay.io/v1/", "quay.io"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("docker.io", "index.docker.io"),
    ],
)
def test_passwords_are_found_by_host(docker: Docker, key: str, host: str) -> None:
    docker.configure(auths={"other": auth("x", "y"), key: auth("me", "se:cret")})
    assert find_credential(host) == Credential("me", "se:cret")
    assert find_credential("elsewhere") == Credential()


def test_a_password_becomes_a_header(docker: Docker) -> None:
    assert Credential("me", "se:cret").basic == "Basic " + base64.b64encode(b"me:se:cret").decode()
    assert Credential().basic == ""


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"username": "me", "password": "pw"}, Credential("me", "pw")),
        ({**auth("<token>", ""), "identitytoken": "long"}, Credential("<token>", "", "long")),
        ({"registrytoken": "short"}, Credential("", "", "", "short")),
        ({"auth": "not base64!"}, Credential()),
        ({}, Credential()),
    ],
)
def test_rows_have_several_forms(docker: Docker, row: dict[str, str], found: Credential) -> None:
    docker.configure(auths={"host": row})
    assert find_credential("host") == found


@pytest.mark.parametrize("text", ["", "[]", "{", '{"auths": 3, "credHelpers": []}'])
def test_a_damaged_configuration_is_none(docker: Docker, text: str) -> None:
    (docker.base / "config.json").write_text(text)
    assert find_credential("host") == Credential()


def test_a_helper_is_asked(docker: Docker) -> None:
    docker.helper("mine", 'echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"for $server\\"}"')
    docker.configure(credsStore="mine", auths={"host": {}})
    assert find_credential("host") == Credential("me", "for host")
    assert find_credential("registry-1.docker.io") == Credential("me", "for https://index.docker.io/v1/")


def test_a_helper_for_one_registry_comes_first(docker: Docker) -> None:
    docker.helper("all", 'echo "{\\"Username\\": \\"all\\", \\"Secret\\": \\"1\\"}"')
    docker.helper("one", 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"2\\"}"')
    docker.configure(credsStore="all", credHelpers={"one.io": "one"})
    assert find_credential("one.io") == Credential(identity_token="2")
    assert find_credential("two.io") == Credential("all", "1")


def test_a_helper_may_know_nothing(docker: Docker) -> None:
    docker.helper("mine", "echo credentials not found in native keychain; exit 1")
    docker.configure(credsStore="mine", auths={"host": auth("me", "pw")})
    assert find_credential("host") == Credential("me", "pw")
    assert find_credential("elsewhere") == Credential()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo the keychain is locked; exit 1", "the keychain is locked"),
        ("exit 3", "exit status 3"),
        ("echo nonsense", "not as it should be"),
        ('echo "{}"', "not as it should be"),
    ],
)
def test_a_helper_that_fails_is_named(docker: Docker, script: str, text: str) -> None:
    docker.helper("mine", script)
    docker.configure(credsStore="mine")
    with pytest.raises(ImageError, match="docker-credential-mine") as caught:
        find_credential("host")
    assert text in str(caught.value)
    assert caught.value.kind is Kind.NOT_ALLOWED


def test_a_helper_that_is_not_there_is_named(docker: Docker) -> None:
    docker.configure(credHelpers={"host": "absent"})
    with pytest.raises(ImageError, match="docker-credential-absent is not on PATH"):
        find_credential("host")
