"""The client of DynamoDB that the index and the record use: signed requests, retries, errors by kind.

Requests and answers are DynamoDB's JSON (``{"S": "text"}``). Where the environment asks for what the direct
transport lacks (a proxy, an endpoint that only botocore can work out) boto3 makes the calls.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from reflow.aws.dynamohttp import CallError, DirectTransport
from reflow.aws.session import AwsSession
from reflow.aws.sigv4 import Access
from reflow.core.errors import Kind, ReflowError

CONCURRENCY = 32
ATTEMPTS = 12
FIRST_DELAY_S = 0.05
MAX_DELAY_S = 5.0
BATCH = 100
"""How many items are asked for in one request."""

Item = dict[str, dict[str, Any]]
Request = dict[str, Any]

_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "LimitExceededException",
        "TransactionInProgressException",
    }
)
_KINDS = {
    "ResourceNotFoundException": Kind.NOT_EXIST,
    "ConditionalCheckFailedException": Kind.PRECONDITION,
    "ValidationException": Kind.INVALID,
    "SerializationException": Kind.INVALID,
    "AccessDeniedException": Kind.NOT_ALLOWED,
}
_CREDENTIALS = frozenset(
    {
        "ExpiredTokenException",
        "ExpiredToken",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_T = TypeVar("_T")


class Transport(Protocol):
    """What makes a call, once; it blocks, and may be used from threads."""

    def send(self, operation: str, request: Request) -> dict[str, Any]:
        """Make a call. Raises CallError."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class BotoTransport:
    """Calls through boto3."""

    def __init__(self, session: AwsSession) -> None:
        self._client = session.client("dynamodb")

    def send(self, operation: str, request: Request) -> dict[str, Any]:
        """Make a call, once. Raises CallError."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = self._client._make_api_call(operation, request)
        except ClientError as err:
            error = err.response["Error"]
            status = err.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            raise CallError(error.get("Code", ""), error.get("Message", ""), status) from err
        except BotoCoreError as err:
            raise CallError("ConnectionError", str(err), 0) from err
        return answer

    def close(self) -> None:
        """Leave it to the session."""


class DynamoDB:
    """One per table, or shared. ``transport``: ``direct``, ``boto``, or empty for what fits."""

    def __init__(self, session: AwsSession, *, transport: str = "") -> None:
        self._session = session
        self._wanted = transport
        self._transport: Transport | None = None
        self._threads = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="dynamodb")
        self._opening = asyncio.Lock()

    async def call(self, operation: str, request: Request, *, until_s: float = math.inf) -> dict[str, Any]:
        """Make a call, again while that can help. Raises what `error_of` says.

        Nothing is sent later than ``until_s`` (of `time.monotonic`): TIMEOUT.
        """
        loop = asyncio.get_running_loop()
        if self._transport is None:
            async with self._opening:
                if self._transport is None:
                    self._transport = await loop.run_in_executor(self._threads, self._open)
        send = partial(_send_until, until_s, self._transport) if until_s < math.inf else self._transport.send
        for attempt in range(ATTEMPTS):
            try:
                return await loop.run_in_executor(self._threads, send, operation, request)
            except CallError as fault:
                if attempt + 1 == ATTEMPTS or not is_passing(fault):
                    raise await self._named(operation, request, fault) from fault
            await asyncio.sleep(delay_s(attempt))
        raise AssertionError("the last attempt returns or raises")

    async def _named(self, operation: str, request: Request, fault: CallError) -> ReflowError:
        """Say what went wrong; for a query that is refused, whether its index is missing."""
        index = request.get("IndexName")
        table = str(request.get("TableName") or next(iter(request.get("RequestItems", {"": 0}))))
        if index and fault.code == "ValidationException":
            found = await self.call("DescribeTable", {"TableName": table})
            indices = found["Table"].get("GlobalSecondaryIndexes") or ()
            if index not in [each["IndexName"] for each in indices]:
                cause = f"table {table} has no index {index}: run its setup verb again, which adds it"
                return ReflowError(Kind.NOT_EXIST, f"dynamodb.{operation}", table, cause=cause)
        return error_of(operation, table, fault)

    def _open(self) -> Transport:
        endpoint = "" if self._wanted == "boto" else direct_endpoint(self._session)
        if not endpoint:
            if self._wanted == "direct":
                raise ReflowError(Kind.NOT_SUPPORTED, "dynamodb", cause="direct requests in this environment")
            return BotoTransport(self._session)
        return DirectTransport(endpoint, self._session.region, self._access())

    def _access(self) -> Callable[[], Access]:
        told = self._session.environment_access()
        if told is not None:
            return lambda: told
        self._session.credentials()

        def access() -> Access:
            frozen = self._session.frozen_credentials()
            assert frozen is not None
            return Access(frozen.access_key or "", frozen.secret_key or "", frozen.token)

        return access

    async def batch_get(self, table: str, ids: list[str], **options: Any) -> AsyncIterator[Item]:
        """Items by their ``ID``, in hundreds at once, in no order; absent ones are left out."""
        parts = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
        for items in await gather(lambda part: self._hundred(table, part, options), parts):
            for item in items:
                yield item

    async def _hundred(self, table: str, ids: list[str], options: dict[str, Any]) -> list[Item]:
        items: list[Item] = []
        wanted: Request = {table: {"Keys": [{"ID": {"S": id}} for id in ids], **options}}
        fruitless = 0
        while wanted:
            answer = await self.call("BatchGetItem", {"RequestItems": wanted})
            found = answer.get("Responses", {}).get(table, [])
            items += found
            wanted = answer.get("UnprocessedKeys") or {}
            if not wanted:
                break
            fruitless = 0 if found else fruitless + 1
            if fruitless == ATTEMPTS:
                cause = f"{len(wanted[table]['Keys'])} keys were left unprocessed {ATTEMPTS} times"
                raise ReflowError(Kind.TEMPORARY, "dynamodb.BatchGetItem", table, cause=cause)
            await asyncio.sleep(delay_s(fruitless))
        return items

    async def query(self, request: Request) -> AsyncIterator[Item]:
        """All items that a Query finds, page by page."""
        while True:
            answer = await self.call("Query", request)
            for item in answer.get("Items", ()):
                yield item
            if not answer.get("LastEvaluatedKey"):
                return
            request = {**request, "ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def scan(self, request: Request, segments: int) -> AsyncIterator[dict[str, Any]]:
        """Pages of a Scan in parallel segments; no more than one page of each is held."""

        def fetch(segment: Request) -> asyncio.Task[dict[str, Any]]:
            return asyncio.ensure_future(self.call("Scan", segment))

        parts = [{**request, "Segment": number, "TotalSegments": segments} for number in range(segments)]
        fetching = {fetch(part): part for part in parts}
        try:
            while fetching:
                done, _ = await asyncio.wait(fetching, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    part = fetching.pop(task)
                    page = task.result()
                    if page.get("LastEvaluatedKey"):
                        part = {**part, "ExclusiveStartKey": page["LastEvaluatedKey"]}
                        fetching[fetch(part)] = part
                    yield page
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)

    def close(self) -> None:
        """Let go of threads and connections; calls under way come to their end."""
        self._threads.shutdown(wait=False)
        if self._transport is not None:
            self._transport.close()


def _send_until(until_s: float, transport: Transport, operation: str, request: Request) -> dict[str, Any]:
    """Make a call unless it is too late: it may have waited for a thread."""
    if time.monotonic() > until_s:
        raise ReflowError(Kind.TIMEOUT, f"dynamodb.{operation}", cause="it was not sent in time")
    return transport.send(operation, request)


async def gather(work: Callable[[_T], Awaitable[Any]], things: Iterable[_T]) -> list[Any]:
    """Do some work on each thing, at most `CONCURRENCY` at once, all of them; then raise the first error."""
    numbered = list(enumerate(things))
    waiting = iter(numbered)
    results: dict[int, Any] = {}
    errors: list[ReflowError] = []

    async def worker() -> None:
        for number, thing in waiting:
            try:
                results[number] = await work(thing)
            except ReflowError as err:
                errors.append(err)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(CONCURRENCY, len(numbered))):
            group.create_task(worker())
    if errors:
        raise errors[0]
    return [results[number] for number in sorted(results)]


def is_passing(fault: CallError) -> bool:
    """Tell whether the same call may do better later."""
    return fault.code in _THROTTLED or fault.status == 0 or fault.status >= 500


def delay_s(attempt: int) -> float:
    """How long to wait before trying again: doubling, with jitter, and never long."""
    return random.uniform(0.5, 1) * min(MAX_DELAY_S, FIRST_DELAY_S * float(2**attempt))


def error_of(operation: str, table: str, fault: CallError) -> ReflowError:
    """What a fault means to us."""
    op = f"dynamodb.{operation}"
    if fault.code == "ResourceNotFoundException":
        cause = f"there is no table {table} in this region: make it with its setup verb, or correct its name"
        return ReflowError(Kind.NOT_EXIST, op, table, cause=cause)
    if fault.code in _CREDENTIALS:
        cause = f"the AWS credentials are not accepted, renew them or log in again: {fault}"
        return ReflowError(Kind.NOT_ALLOWED, op, table, cause=cause)
    if fault.code in _KINDS:
        return ReflowError(_KINDS[fault.code], op, table, cause=str(fault))
    if fault.code in _THROTTLED:
        return ReflowError(Kind.TEMPORARY, op, table, cause=str(fault))
    if fault.status == 0:
        return ReflowError(Kind.NET, op, table, cause=str(fault))
    return ReflowError(Kind.UNAVAILABLE if fault.status >= 500 else Kind.OTHER, op, table, cause=str(fault))


def direct_endpoint(session: AwsSession) -> str:
    """The endpoint for direct requests; nothing where only botocore knows, or a proxy is to be used."""
    environ = os.environ
    if any(environ.get(name) or environ.get(name.lower()) for name in ("HTTPS_PROXY", "HTTP_PROXY")):
        return ""
    if any(
        environ.get(name, "").lower() == "true"
        for name in ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
    ):
        return ""
    given = environ.get("AWS_ENDPOINT_URL_DYNAMODB") or environ.get("AWS_ENDPOINT_URL")
    if given and environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        return given if given.rstrip("/").count("/") == 2 else ""
    profile = session.profile()
    if any(
        name in profile
        for name in ("endpoint_url", "services", "use_fips_endpoint", "use_dualstack_endpoint", "ca_bundle")
    ):
        return ""
    region = session.region
    if region.startswith("cn-"):
        return f"https://dynamodb.{region}.amazonaws.com.cn"
    return "" if "iso" in region else f"https://dynamodb.{region}.amazonaws.com"
