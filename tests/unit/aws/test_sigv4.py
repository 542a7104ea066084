"""Signatures, compared with botocore's."""

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from reflow.aws.sigv4 import Access, Scope, authorization, encoded


def signed_by_botocore(auth: SigV4Auth, request: AWSRequest) -> tuple[str, dict[str, str]]:
    """The Authorization header, and the others that it signs."""
    auth.add_auth(request)
    value = request.headers["Authorization"]
    names = value.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    return value, {name: request.headers.get(name) or "h" for name in names}


def test_requests_to_dynamodb_are_signed_as_botocore_signs_them() -> None:
    request = AWSRequest("POST", "https://h/", {"x-amz-target": "T", "content-type": "a  b"}, b"{}")
    credentials = Credentials("AK", "SK", "TOK")
    wanted, headers = signed_by_botocore(SigV4Auth(credentials, "dynamodb", "eu-west-1"), request)
    payload = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    scope = Scope("eu-west-1", "dynamodb")
    assert authorization("POST", "/", headers, payload, Access("AK", "SK", "TOK"), scope) == wanted


@pytest.mark.parametrize(
    "key", ["a", "a/b", "a//b", "../a/./b", "a b+c%20d", "ü/日", "=&?#~'()*!$@:;,", "x\x01y", "a\\b"]
)
@pytest.mark.parametrize("query", ["", "partNumber=3&uploadId=a%2Fb~c"])
def test_requests_to_s3_are_signed_as_botocore_signs_them(key: str, query: str) -> None:
    path = "/b/" + encoded(key, safe="/")
    target = f"{path}?{query}" if query else path
    request = AWSRequest("PUT", f"https://h{target}", {"content-md5": "x=="}, b"")
    request.context["client_config"] = None
    wanted, headers = signed_by_botocore(S3SigV4Auth(Credentials("AK", "SK"), "s3", "us-west-2"), request)
    payload = headers["x-amz-content-sha256"]
    scope = Scope("us-west-2", "s3")
    assert authorization("PUT", target, headers, payload, Access("AK", "SK", None), scope) == wanted


def test_credentials_are_not_printed() -> None:
    assert "SK" not in repr(Access("AK", "SK", "TOK"))
