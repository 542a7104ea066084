"""A proxy before DynamoDB that throttles, fails, cuts connections, and leaves parts of batches undone."""

from __future__ import annotations

import json
from collections import Counter

from tests.faultproxy import NOTHING, Fault, FaultProxy, Message, Reply

_NAMES = {
    Fault.THROTTLED: (400, "ProvisionedThroughputExceededException"),
    Fault.INTERNAL: (500, "InternalServerError"),
    Fault.INTERNAL_AFTER: (500, "InternalServerError"),
}
_LEFT = {"BatchGetItem": ("Responses", "UnprocessedKeys"), "BatchWriteItem": ("", "UnprocessedItems")}


class DynamoFaults(FaultProxy):
    """``rates`` has the chance of each fault; ``left`` that of a batch of which nothing is done.

    ``calls`` counts requests by operation, ``undone`` batches.
    """

    def __init__(self, upstream: str, seed: int) -> None:
        super().__init__(upstream, seed)
        self.left = 0.0
        self.undone = 0
        self.calls: Counter[str] = Counter()

    async def _reply(self, request: Message) -> Reply:
        operation = request.header("x-amz-target").partition(".")[2]
        self.calls[operation] += 1
        request = request._replace(line=request.line.replace("POST / ", f"POST /?{operation} ", 1))
        fault, chance = self._draw(request)
        request = request._replace(line=request.line.replace(f"/?{operation}", "/", 1))
        if operation in _LEFT and fault is None and chance.random() < self.left:
            self.undone += 1
            return _answer(200, _nothing_done(operation, request.body))
        if isinstance(fault, Fault):
            self.done[fault] += 1
        if fault is Fault.CUT_BEFORE:
            return NOTHING
        if fault in _NAMES and fault is not Fault.INTERNAL_AFTER:
            return _refused(fault)
        answer = await self._ask(request)
        if answer is None or fault is Fault.CUT_AFTER:
            return NOTHING
        return _refused(fault) if fault is Fault.INTERNAL_AFTER else _passed(answer)


def _passed(answer: Message) -> Reply:
    kept = answer.without("content-length", "transfer-encoding")
    return Reply(kept._replace(headers=[*kept.headers, ("Content-Length", str(len(kept.body)))]).encoded())


def _refused(fault: Fault) -> Reply:
    status, name = _NAMES[fault]
    return _answer(status, {"__type": f"com.amazonaws.dynamodb.v20120810#{name}", "message": "by the proxy"})


def _nothing_done(operation: str, body: bytes) -> dict[str, object]:
    done, left = _LEFT[operation]
    items = json.loads(body)["RequestItems"]
    return {left: items, **({done: {table: [] for table in items}} if done else {})}


def _answer(status: int, body: dict[str, object]) -> Reply:
    data = json.dumps(body).encode()
    headers = [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", str(len(data)))]
    return Reply(Message(f"HTTP/1.1 {status} by-the-proxy", headers, data).encoded())
