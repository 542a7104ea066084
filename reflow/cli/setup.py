"""The setup verbs: ``reflow setup-s3-repository``, ``-dynamodb-assoc``, ``-taskdb``, ``-ec2``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, FlagSpec, UsageError

if TYPE_CHECKING:
    from reflow.runtime.setup_call import Cloud

_RECOVERY: FlagSpec = (
    "recovery",
    "bool",
    "false",
    "turn on point-in-time recovery: to any second of the last 35 days (at a cost)",
)
_SECURE: FlagSpec = (
    "secure",
    "bool",
    "true",
    "make a new bucket safe; if given, also one that exists, whose other settings stay",
)

_BUCKET = """\
A new bucket is in the region of the session. It refuses public access and requests without TLS, encrypts what
it holds, and forgets uploads that were not finished within 7 days. (What a server other than AWS's cannot do
is left out, and said.) A bucket that exists already is checked and left as it is, unless -secure is given."""

_TABLE = """\
A new table is paid by request. Of a table that exists already keys and contents are checked; it gets the
indices that it lacks, which is said, and is otherwise left as it is."""

_AGAIN = """\
The command can be repeated, also after a failure: it goes on where it was. Credentials and region are those
of the environment, profiles or roles, as for AWS's own tools; they are not written to the configuration file.
What has been written is shown by "reflow config", what is wrong by "reflow doctor"."""


def open_cloud(app: App) -> Cloud:
    """The session of this process, for control calls."""
    from reflow.aws.session import AwsSession
    from reflow.runtime.setup_call import Cloud

    return Cloud(AwsSession(), app.log.info)


def _is_secured(arguments: Arguments) -> bool | None:
    """What was said of -secure; None when nothing was."""
    return bool(arguments["secure"]) if "secure" in arguments.given else None


def _s3_repository(app: App, arguments: Arguments) -> int:
    from reflow.runtime.setup import repository, set_up

    verb = repository(arguments.words[0], is_secured=_is_secured(arguments))
    set_up(app.config.path, verb, open_cloud(app))
    return 0


def _dynamodb_assoc(app: App, arguments: Arguments) -> int:
    from reflow.runtime.setup import assoc, set_up

    verb = assoc(arguments.words[0], has_recovery=arguments["recovery"])
    set_up(app.config.path, verb, open_cloud(app))
    return 0


def _taskdb(app: App, arguments: Arguments) -> int:
    from reflow.runtime.setup import set_up, taskdb

    table, bucket = arguments.words
    verb = taskdb(table, bucket, has_recovery=arguments["recovery"], is_secured=_is_secured(arguments))
    set_up(app.config.path, verb, open_cloud(app))
    return 0


def _ec2(app: App, arguments: Arguments) -> int:
    from ipaddress import ip_network

    from reflow.runtime.setup import set_up_ec2

    try:
        source = str(ip_network(arguments["from"], strict=False))
    except ValueError:
        raise UsageError(
            f"invalid -from {arguments['from']}: want addresses such as 203.0.113.0/24"
        ) from None
    set_up_ec2(app.config.path, open_cloud(app), source=source)
    return 0


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            "setup-dynamodb-assoc",
            "setup-dynamodb-assoc <tablename>",
            f"""\
Setup-dynamodb-assoc makes a DynamoDB table for the cache's index, which everybody who uses the table shares,
and writes the key assoc to the configuration file.

{_TABLE}

{_AGAIN}""",
            _dynamodb_assoc,
            flags=[_RECOVERY],
            min_words=1,
            max_words=1,
        ),
        Command(
            "setup-ec2",
            "setup-ec2",
            f"""\
Setup-ec2 prepares an AWS account for a cluster of EC2 machines, and writes the keys cluster, ec2cluster and
tls to the configuration file.

Machines are in the default VPC of the session's region, and in a security group named "reflow", which is made
if it is not there. It lets in whatever comes from the VPC itself, and from the addresses of -from: calls to
workers (tcp port 9000, mutual TLS) and SSH (tcp port 22).

{_AGAIN}""",
            _ec2,
            flags=[("from", "string", "0.0.0.0/0", "addresses that a new security group lets in")],
        ),
        Command(
            "setup-s3-repository",
            "setup-s3-repository <s3bucket>",
            f"""\
Setup-s3-repository makes an S3 bucket for objects, which everybody who uses the bucket shares, and writes the
key repository to the configuration file.

{_BUCKET}

{_AGAIN}""",
            _s3_repository,
            flags=[_SECURE],
            min_words=1,
            max_words=1,
        ),
        Command(
            "setup-taskdb",
            "setup-taskdb <tablename> <s3bucket>",
            f"""\
Setup-taskdb makes a DynamoDB table for the record of runs and an S3 bucket for their logs, which may be that
of the repository, and writes the key taskdb to the configuration file.

{_TABLE}

{_BUCKET}

{_AGAIN}""",
            _taskdb,
            flags=[_RECOVERY, _SECURE],
            min_words=2,
            max_words=2,
        ),
    )
}
