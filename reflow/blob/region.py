"""Where a bucket is: it may be elsewhere than we are, and need not be one that we may list."""

from __future__ import annotations

from reflow.aws.error import translate
from reflow.aws.session import DEFAULT_REGION
from reflow.blob.datapath import Place
from reflow.blob.direct import DirectPath
from reflow.blob.route import is_boto_wanted, told_by_environment


def region_of(nearest: Place) -> str:
    """Ask for a bucket's region, in the region where we are. Blocks. Raises NOT_EXIST or NOT_ALLOWED."""
    route = None if is_boto_wanted() else told_by_environment(nearest)
    if route is None:
        return _told_by_boto(nearest)
    path = DirectPath(route, nearest.blocking)
    try:
        return path.region(nearest.bucket) or nearest.region
    finally:
        path.hang_up()


def _told_by_boto(nearest: Place) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    name = nearest.bucket
    try:
        answer = nearest.session.client("s3").head_bucket(Bucket=name)
    except ClientError as err:
        answer = err.response
        status = answer["ResponseMetadata"].get("HTTPStatusCode")
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        if status not in (301, 400, 403) or ("x-amz-bucket-region" not in headers and status != 403):
            raise translate(err, "s3.bucket", name) from err
    except BotoCoreError as err:
        raise translate(err, "s3.bucket", name) from err
    headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
    region: str = headers.get("x-amz-bucket-region") or nearest.region or DEFAULT_REGION
    return region
