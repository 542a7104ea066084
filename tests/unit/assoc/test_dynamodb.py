"""Items of the original, read and written; and calls that fail, without a server."""

from types import SimpleNamespace
from typing import Any

import pytest

from reflow.assoc import Kind, dynamodb, renewal
from reflow.assoc.dynamodb import DynamoAssoc
from reflow.aws import dynamodb as client
from reflow.aws.dynamohttp import CallError
from reflow.aws.session import AwsSession
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError

KEY = Digest.parse("sha256:603d3c77c6cf9743b5cc0f392ca3b78ef57d95ce9426b8466ab3fe35ac68b600")
VALUE = Digest.parse("sha256:54712715eaa16d69c63eec5426a5775ba921168cbd6306482ad17e5983a6a4db")
NEW, OLD = (Kind.FILESET_V2, KEY), (Kind.FILESET, KEY)


class Script:
    """A transport that answers as it was told, and keeps what it was asked; the last answer repeats."""

    def __init__(self, *answers: dict[str, Any] | CallError) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def send(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((operation, request))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, CallError):
            raise answer
        return answer

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_DELAY_S", 0.0)


def assoc_of(script: Script, warnings: list[str] | None = None) -> DynamoAssoc:
    warn = [].append if warnings is None else warnings.append
    assoc = DynamoAssoc(AwsSession(), "t", ["user=jo"], warn=warn)
    assoc._database._transport = script
    return assoc


def found(*items: dict[str, Any], unprocessed: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"Responses": {"t": list(items)}, "UnprocessedKeys": unprocessed or {}}


ITEM = {"ID": {"S": str(KEY)}, "ValueV2": {"S": str(VALUE)}, "LastAccessTime": {"N": "99999999999"}}


async def test_a_value_that_is_a_list_gives_its_first() -> None:
    item = {**ITEM, "Value": {"L": [{"S": str(VALUE)}, {"S": "x"}]}}
    assert await assoc_of(Script(found(item))).get_many([OLD, NEW]) == {OLD: VALUE, NEW: VALUE}


async def test_a_broken_value_is_an_error_of_its_key_alone() -> None:
    answer = await assoc_of(Script(found({**ITEM, "Value": {"S": "sha256:12"}}))).get_many([OLD, NEW])
    assert answer[NEW] == VALUE
    assert isinstance(answer[OLD], ReflowError)
    assert answer[OLD].kind is ErrorKind.INVALID


async def test_keys_left_unprocessed_are_asked_for_again() -> None:
    rest = {"t": {"Keys": [{"ID": {"S": str(KEY)}}]}}
    script = Script(found(unprocessed=rest), found(unprocessed=rest), found(ITEM))
    assert await assoc_of(script).get_many([NEW]) == {NEW: VALUE}
    assert script.asked[-1][1]["RequestItems"] == rest


async def test_keys_that_are_never_processed_are_an_error_not_a_miss() -> None:
    script = Script(found(unprocessed={"t": {"Keys": [{"ID": {"S": str(KEY)}}]}}))
    with pytest.raises(ReflowError, match="left unprocessed") as caught:
        await assoc_of(script).get_many([NEW])
    assert (caught.value.kind, len(script.asked)) == (ErrorKind.TEMPORARY, client.ATTEMPTS)


async def test_an_update_is_the_originals() -> None:
    script = Script({})
    await assoc_of(script).put_many({NEW: VALUE})
    ((operation, request),) = script.asked
    assert (operation, request["Key"]) == ("UpdateItem", {"ID": {"S": str(KEY)}})
    expression = "SET #v1 = :v1, ID4 = :id4, LastAccessTime = :now ADD #l :labels"
    assert request["UpdateExpression"] == expression
    assert request["ExpressionAttributeNames"] == {"#v1": "ValueV2", "#l": "Labels"}
    values = request["ExpressionAttributeValues"]
    assert values[":v1"] == {"S": str(VALUE)}
    assert (values[":id4"], values[":labels"]) == ({"S": "603d3c77"}, {"SS": ["user=jo"]})


@pytest.mark.parametrize(("age_s", "updates"), [(100, 0), (90000, 1)])
async def test_a_hit_refreshes_its_time_once_a_day(age_s: int, updates: int) -> None:
    import time

    item = {**ITEM, "LastAccessTime": {"N": str(int(time.time()) - age_s)}}
    script = Script(found(item))
    assoc = assoc_of(script)
    for _ in range(3):
        assert await assoc.get_many([NEW]) == {NEW: VALUE}
    await assoc.close()
    assert [operation for operation, _ in script.asked].count("UpdateItem") == updates


async def test_a_long_run_refreshes_again_after_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1e9]
    for module in (dynamodb, renewal):
        clock = SimpleNamespace(time=lambda: now_s[0], monotonic=lambda: now_s[0])
        monkeypatch.setattr(module, "time", clock)
    script = Script(found({**ITEM, "LastAccessTime": {"N": "5"}}))
    assoc = assoc_of(script)
    for hours in (0, 1, 23, 25):
        now_s[0] = 1e9 + hours * 3600
        assert await assoc.get_many([NEW]) == {NEW: VALUE}
    await assoc.close()
    assert [operation for operation, _ in script.asked].count("UpdateItem") == 2


async def test_a_refused_refresh_is_told_when_it_is_closed() -> None:
    warnings: list[str] = []
    refusal = CallError("AccessDeniedException", "read only", 400)
    assoc = assoc_of(Script(found({**ITEM, "LastAccessTime": {"N": "5"}}), refusal), warnings)
    assert await assoc.get_many([NEW]) == {NEW: VALUE}
    await assoc.close()
    assert "read only" in warnings[0]


@pytest.mark.parametrize(
    ("code", "status", "kind", "attempts"),
    [
        ("ProvisionedThroughputExceededException", 400, ErrorKind.TEMPORARY, client.ATTEMPTS),
        ("InternalServerError", 500, ErrorKind.UNAVAILABLE, client.ATTEMPTS),
        ("ConnectionError", 0, ErrorKind.NET, client.ATTEMPTS),
        ("AccessDeniedException", 400, ErrorKind.NOT_ALLOWED, 1),
        ("ExpiredTokenException", 400, ErrorKind.NOT_ALLOWED, 1),
        ("ResourceNotFoundException", 400, ErrorKind.NOT_EXIST, 1),
        ("ValidationException", 400, ErrorKind.INVALID, 1),
    ],
)
async def test_failures_are_named_and_retried_where_it_helps(
    code: str, status: int, kind: ErrorKind, attempts: int
) -> None:
    script = Script(CallError(code, "no", status))
    with pytest.raises(ReflowError) as caught:
        await assoc_of(script).put_many({NEW: VALUE})
    assert (caught.value.kind, len(script.asked)) == (kind, attempts)


async def test_a_throttled_write_is_not_lost() -> None:
    throttled = CallError("ThrottlingException", "slow down", 400)
    script = Script(throttled, throttled, {})
    await assoc_of(script).put_many({NEW: VALUE})
    assert len(script.asked) == 3
