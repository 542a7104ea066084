"""DynamoDB in a dictionary, at the level of calls: what our index asks for, conditions included."""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from reflow.aws.dynamodb import DynamoDB, Item, Request, error_of
from reflow.aws.dynamohttp import CallError
from reflow.aws.session import AwsSession
from tests.turns import ACTOR

PAGE = 2


async def _at_once() -> None:
    pass


class DictDynamo(DynamoDB):
    """One table. ``turn`` is awaited before each call, which is then made at once.

    The answers of look-ups take another turn to arrive.
    """

    def __init__(self, turn: Callable[[], Awaitable[None]] = _at_once) -> None:
        super().__init__(AwsSession())
        self.items: dict[str, Item] = {}
        self.calls: Counter[str] = Counter()
        self.begun_segments: Counter[str] = Counter()
        """Segments of consistent scans that were begun, by who did."""
        self._turn = turn

    async def call(self, operation: str, request: Request, *, until_s: float = math.inf) -> dict[str, Any]:
        await self._turn()
        self.calls[operation] += 1
        answer: dict[str, Any] = copy.deepcopy(getattr(self, f"_{operation}")(request))
        if operation == "BatchGetItem":
            await self._turn()
        return answer

    def _GetItem(self, request: Request) -> dict[str, Any]:
        item = self.items.get(request["Key"]["ID"]["S"])
        return {"Item": item} if item else {}

    def _BatchGetItem(self, request: Request) -> dict[str, Any]:
        ((table, wanted),) = request["RequestItems"].items()
        ids = [key["ID"]["S"] for key in wanted["Keys"]]
        return {"Responses": {table: [self.items[id] for id in ids if id in self.items]}}

    def _Scan(self, request: Request) -> dict[str, Any]:
        if request.get("ConsistentRead") and "ExclusiveStartKey" not in request:
            self.begun_segments[ACTOR.get()] += 1
        after = request.get("ExclusiveStartKey", {"ID": {"S": ""}})["ID"]["S"]
        segment, count = request["Segment"], request["TotalSegments"]
        ids = sorted(id for id in self.items if id > after and int(id[7:9], 16) % count == segment)
        page = [self.items[id] for id in ids[:PAGE]]
        condition = request.get("FilterExpression")
        found = [item for item in page if condition is None or _holds(condition, item, request)]
        last = {"LastEvaluatedKey": {"ID": page[-1]["ID"]}} if len(ids) > PAGE else {}
        return {"Items": found, "Count": len(found), **last}

    def _DeleteItem(self, request: Request) -> dict[str, Any]:
        self._check(request)
        self.items.pop(request["Key"]["ID"]["S"], None)
        return {}

    def _UpdateItem(self, request: Request) -> dict[str, Any]:
        self._check(request)
        item = self.items.setdefault(request["Key"]["ID"]["S"], dict(request["Key"]))
        values = request.get("ExpressionAttributeValues", {})
        words = re.split(r"\b(SET|ADD) ", request["UpdateExpression"])[1:]
        for verb, change in zip(words[::2], words[1::2], strict=True):
            for part in change.split(","):
                name, _, mark = part.strip().replace(" = ", " ").partition(" ")
                name, value = _named(name, request), values[mark]
                if verb == "ADD" and "N" in value:
                    value = {"N": str(int(item.get(name, {"N": "0"})["N"]) + int(value["N"]))}
                elif verb == "ADD":
                    value = {"SS": sorted({*item.get(name, {"SS": []})["SS"], *value["SS"]})}
                item[name] = value
        return {}

    def _check(self, request: Request) -> None:
        item = self.items.get(request["Key"]["ID"]["S"], {})
        if not _holds(request.get("ConditionExpression", ""), item, request):
            raise error_of("change", "t", CallError("ConditionalCheckFailedException", "no", 400))


def _named(name: str, request: Request) -> str:
    found: str = request.get("ExpressionAttributeNames", {}).get(name, name)
    return found


def _holds(condition: str, item: Item, request: Request) -> bool:
    return not condition or any(
        all(_is_true(atom.strip("() "), item, request) for atom in part.split(" AND "))
        for part in condition.split(" OR ")
    )


def _is_true(atom: str, item: Item, request: Request) -> bool:
    if atom.startswith("attribute_"):
        test, _, name = atom.partition("(")
        return (_named(name, request) in item) is (test == "attribute_exists")
    name, operator, mark = atom.split(" ")
    value = request["ExpressionAttributeValues"][mark]
    if _named(name, request) not in item:
        return False
    held = item[_named(name, request)]
    return held == value if operator == "=" else float(held["N"]) >= float(value["N"])
