"""What all AWS services need: a session (credentials, region, endpoints), errors by kind, retries.

boto3 and botocore are imported when a session is first used. Entry points: `session.AwsSession`, which makes
clients; `error.translate`, which turns what SDKs raise into a `ReflowError`; `retry.retrying`.
"""
