"""The objects that rows of the task database refer to: logs, graphs, bundles, inspections.

Rows are never removed, so these are never garbage, however old; the original counts them as such when they
are in the cache's bucket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping

from reflow.aws.dynamodb import DynamoDB
from reflow.aws.session import AwsSession
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.gojson import load_json
from reflow.taskdb.dynamorow import output_places

_SEGMENTS = 8
_INSPECT = "Inspect"
_ATTRIBUTES = ("RunLog", "EvalGraph", "Bundle", "Inspect", "Stdout", "Stderr", "ExecInspect", "Logs")
"""Those of rows of old versions included."""


ReadObjects = Callable[[Collection[Digest]], Awaitable[Mapping[Digest, bytes | ReflowError]]]


async def object_references(
    session: AwsSession, table: str, read: ReadObjects, *, transport: str = ""
) -> AsyncIterator[Digest]:
    """The objects that any row refers to, and those that its inspection does, with repetitions.

    ``read`` reads inspections: only they name what an exec wrote. Raises NOT_EXIST without the table, and
    what keeps an inspection from being read, unless it is gone.
    """
    database = DynamoDB(session, transport=transport)
    names = {f"#n{number}": name for number, name in enumerate(_ATTRIBUTES)}
    request = {
        "TableName": table,
        "ConsistentRead": True,
        "ProjectionExpression": ", ".join(names),
        "ExpressionAttributeNames": names,
    }
    try:
        async for page in database.scan(request, _SEGMENTS):
            inspections: set[Digest] = set()
            for item in page.get("Items", ()):
                for name, value in item.items():
                    digest = _digest(value.get("S", ""))
                    if digest is not None:
                        yield digest
                        if name == _INSPECT:
                            inspections.add(digest)
            for found in (await read(inspections)).values() if inspections else ():
                for digest in _outputs(found):
                    yield digest
    finally:
        database.close()


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text.startswith("sha256:") else None
    except ValueError:
        return None


def _outputs(found: bytes | ReflowError) -> list[Digest]:
    """What an exec wrote, as its inspection names it."""
    if isinstance(found, ReflowError):
        if found.kind is Kind.NOT_EXIST:
            return []
        raise found
    try:
        places = output_places(load_json(found))
    except (ValueError, AttributeError):
        return []  # somebody else's
    return [digest for place in places if (digest := _digest(place)) is not None]
