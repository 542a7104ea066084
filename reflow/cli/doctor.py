"""``reflow doctor``: what is wrong here, and how to mend it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.runtime.config import Config, ConfigError, load_config

if TYPE_CHECKING:
    from reflow.runtime.doctor import Finding

_DETAILS = """\
Doctor checks what runs need, and prints a line for each check: ok, warning or failed, what was found, and how
to mend it. It looks at

	the configuration file, the directory of state, the disk
	what runs execs (the docker daemon, bubblewrap, or this machine's own tools), the registry of images
	and, if they are configured: AWS credentials, region, clock, buckets, tables, the cluster

To see whether a bucket can be written to, a small object is put there and deleted. Nothing else is changed,
and nothing secret is printed. The status is 1 if a check failed."""


def run(app: App, arguments: Arguments) -> int:
    """Make all checks and print what they found."""
    from reflow.runtime.doctor import document, is_well, text

    findings = _findings(app, arguments["timeout"])
    app.print(json.dumps(document(findings)) if arguments["json"] else text(findings))
    return 0 if is_well(findings) else 1


def _findings(app: App, timeout_s: float) -> list[Finding]:
    from reflow.runtime.doctor import examine
    from reflow.runtime.doctor_local import local_checks

    config, trouble = _config(app)
    found = examine(local_checks(config, trouble), timeout_s)
    return found + _aws_findings(config, timeout_s)


def _config(app: App) -> tuple[Config, str]:
    """The configuration, or else the built-in one and why."""
    try:
        return app.config, ""
    except ConfigError as err:
        return load_config(""), str(err)


def _aws_findings(config: Config, timeout_s: float) -> list[Finding]:
    """Nothing of AWS is imported unless the configuration uses it."""
    names = {config.provider(key) for key in ("repository", "assoc", "taskdb", "cluster")}
    if not names & {"s3", "dynamodbassoc", "dynamodbtask", "ec2cluster"}:
        return []
    from reflow.aws.session import AwsSession
    from reflow.runtime import doctor_aws
    from reflow.runtime.doctor import examine, is_well

    where = doctor_aws.used(config)
    assert where is not None
    session = AwsSession()
    doctor_aws.load_models(session, where)
    first = examine(doctor_aws.identity_checks(session, where), timeout_s)
    if not is_well(first):
        return first
    return first + examine(doctor_aws.service_checks(session, config, where), timeout_s)


COMMAND = Command(
    "doctor",
    "doctor",
    _DETAILS,
    run,
    flags=[
        (
            "json",
            "bool",
            "false",
            "print one JSON object: ok, and checks with name, status, message and mend",
        ),
        ("timeout", "duration", "3s", "how long a check may take"),
    ],
)
