"""The objects that rows of the task database refer to: logs, graphs, bundles, inspections.

Rows are never removed, so these are never garbage, however old; the original counts them as such when they
are in the cache's bucket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from reflow.aws.dynamodb import DynamoDB
from reflow.aws.session import AwsSession
from reflow.core.digest import Digest

_SEGMENTS = 8
_ATTRIBUTES = ("RunLog", "EvalGraph", "Bundle", "Inspect", "Stdout", "Stderr", "ExecInspect", "Logs")
"""Those of rows of old versions included."""


async def object_references(session: AwsSession, table: str, *, transport: str = "") -> AsyncIterator[Digest]:
    """The objects that any row refers to, with repetitions. Raises NOT_EXIST without the table."""
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
            for item in page.get("Items", ()):
                for value in item.values():
                    text = value.get("S", "")
                    if text.startswith("sha256:"):
                        try:
                            yield Digest.parse(text)
                        except ValueError:
                            continue
    finally:
        database.close()
