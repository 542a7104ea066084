"""``reflow iam-policy``: the least that a role must be allowed to do at AWS."""

from __future__ import annotations

import json

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, UsageError
from reflow.runtime.policy import ROLES, places, policy

_DETAILS = """\
Iam-policy prints the least that a role must be allowed to do at AWS, as a policy document of IAM, for the
buckets and tables that the configuration names. The roles are

	driver     runs programs: on your machine, or on one of yours at AWS (the default)
	node       is a machine of a cluster (its instance profile)
	read-only  looks at runs and results, and runs with -cache=read

Buckets that programs read (file("s3://…"), dir("s3://…")) are named by -inputs, those that they copy results
to by -results. The rights that the setup verbs need are not among them: those are an administrator's.

	$ reflow iam-policy -inputs my-reads driver > policy.json
	$ aws iam put-role-policy --role-name reflow --policy-name reflow --policy-document file://policy.json"""


def run(app: App, arguments: Arguments) -> int:
    """Print the document."""
    role = arguments.words[0] if arguments.words else ROLES[0]
    if role not in ROLES:
        raise UsageError(f"unknown role {role}: want one of {', '.join(ROLES)}")
    named = {flag: [name for name in arguments[flag].split(",") if name] for flag in ("inputs", "results")}
    where = places(app.config, named["inputs"], named["results"])
    app.print(json.dumps(policy(role, where, arguments["partition"]), indent=2))
    return 0


COMMAND = Command(
    "iam-policy",
    "iam-policy [driver|node|read-only]",
    _DETAILS,
    run,
    flags=[
        ("inputs", "string", "", "buckets that programs read, separated by commas"),
        ("partition", "string", "aws", "what names of resources begin with: aws, aws-cn or aws-us-gov"),
        ("results", "string", "", "buckets that programs write to, separated by commas"),
    ],
    max_words=1,
)
