import pytest

from reflow.core.errors import (
    Kind,
    ReflowError,
    error_from_json,
    is_non_retryable,
    is_restartable,
    is_transient,
    kind_of,
)

CHAIN = ReflowError(
    Kind.OTHER, "exec", "sha256:00", cause=ReflowError(Kind.DOCKER_EXEC, cause="exited with code 3")
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ReflowError(Kind.NOT_EXIST, "file", "a.txt"), "file a.txt: resource does not exist"),
        (ReflowError(Kind.OTHER, cause="plain"), "plain"),
        (CHAIN, "exec sha256:00: docker exec: exited with code 3"),
        (
            ReflowError(Kind.NET, "get", cause=ReflowError(Kind.TIMEOUT, "dial", "host")),
            "get: network error:\n\tdial host: timeout",
        ),
        (
            ReflowError(Kind.NET, "get", cause=ReflowError(Kind.NET, "dial", "host")),
            "get: network error:\n\tdial host",
        ),
    ],
)
def test_text_is_the_originals(error: ReflowError, text: str) -> None:
    assert str(error) == text


def test_kind_is_hoisted_from_the_cause() -> None:
    assert CHAIN.kind is Kind.DOCKER_EXEC
    assert kind_of(CHAIN) is Kind.DOCKER_EXEC


@pytest.mark.parametrize("error", [CHAIN, ReflowError(Kind.OOM, "exec", "x", cause=ValueError("boom"))])
def test_json_round_trip_keeps_the_chain(error: ReflowError) -> None:
    again = error_from_json(error.to_json())
    assert (str(again), again.kind) == (str(error), error.kind)


def test_unknown_kind_is_other() -> None:
    assert error_from_json({"Op": "x", "Arg": None, "Kind": "New", "Error": ""}).kind is Kind.OTHER


@pytest.mark.parametrize(
    ("error", "transient", "retryable", "restartable"),
    [
        (ReflowError(Kind.TEMPORARY, "x"), True, True, True),
        (ReflowError(Kind.NET, "x"), False, True, True),
        (CHAIN, False, False, False),
        (ReflowError(Kind.EVAL, "x", cause=ReflowError(Kind.UNAVAILABLE, "y")), False, True, True),
        (ReflowError(Kind.CANCELED, "x", cause=ReflowError(Kind.UNAVAILABLE, "y")), False, True, False),
        (ReflowError(Kind.INTEGRITY, "x"), False, True, False),
    ],
)
def test_what_a_kind_decides(
    error: ReflowError, *, transient: bool, retryable: bool, restartable: bool
) -> None:
    assert is_transient(error) is transient
    assert is_non_retryable(error) is not retryable
    assert is_restartable(error) is restartable
