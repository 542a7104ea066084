"""Accounts, buckets and tables of a test's own on imitations of AWS."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests import servers


def client(service: str, url: str, **credentials: str) -> Any:
    """A client of a test's own, with retries."""
    import botocore.session

    given = {**servers.ACCESS, **credentials}
    return botocore.session.get_session().create_client(
        service,
        region_name=servers.REGION,
        endpoint_url=url,
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=given.get("AWS_SESSION_TOKEN"),
    )


def new_account() -> dict[str, str]:
    """Credentials of an account of moto that nobody else uses: with networks, groups, tables of its own."""
    number = f"{secrets.randbelow(10**12):012d}"
    role = f"arn:aws:iam::{number}:role/tester"
    given = client("sts", servers.MOTO).assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


def random_name(prefix: str = "setup") -> str:
    """A name for a bucket or a table."""
    return f"{prefix}-{secrets.token_hex(6)}"


@contextmanager
def new_bucket(s3: Any, prefix: str) -> Iterator[str]:
    """The name of a new bucket, which is removed at the end."""
    name = random_name(prefix)
    s3.create_bucket(Bucket=name)
    try:
        yield name
    finally:
        remove_bucket(s3, name)


def remove_bucket(s3: Any, bucket: str) -> None:
    """Remove a bucket with what is in it, if it is there."""
    try:
        for each in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=each["Key"])
        s3.delete_bucket(Bucket=bucket)
    except s3.exceptions.NoSuchBucket:
        pass


def remove_table(dynamodb: Any, table: str) -> None:
    """Remove a table, if it is there and not about to change."""
    try:
        dynamodb.get_waiter("table_exists").wait(
            TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        ) if dynamodb.describe_table(TableName=table)["Table"]["TableStatus"] != "ACTIVE" else None
        dynamodb.delete_table(TableName=table)
    except dynamodb.exceptions.ResourceNotFoundException:
        pass
