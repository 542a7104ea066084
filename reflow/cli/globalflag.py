"""The flags that stand before the command, and what is printed when no command can be made out."""

from __future__ import annotations

from reflow.cli.command import FlagSpec

OVERRIDE_KEYS = (
    "assoc",
    "awscreds",
    "awstool",
    "bootstrap",
    "cache",
    "cluster",
    "docker",
    "labels",
    "logger",
    "metrics",
    "predictor",
    "reflow",
    "reflowlet",
    "repository",
    "runid",
    "session",
    "sshkey",
    "taskdb",
    "tls",
    "tracer",
    "user",
)
"""Keys of the configuration that a flag of the same name replaces (``executor`` is a flag of ``run``)."""


def global_flags(config_path: str) -> list[FlagSpec]:
    """The table of global flags."""
    flags: list[FlagSpec] = [
        ("config", "string", config_path, "configuration file; empty: the built-in configuration only"),
        ("cpuprofile", "string", "", "write a CPU profile (of Python's profiler) to this file at exit"),
        ("fileset_op_limit", "int", "-1", "no effect: kept for old command lines"),
        ("http", "string", "", "serve status and counters over HTTP at this address (host:port or :port)"),
        ("log", "string", "info", "level of messages: off, error, info or debug"),
        ("memprofile", "string", "", "write a profile of allocated memory to this file at exit"),
        ("memstatsduration", "duration", "0s", "log memory statistics this often, also to memstats.csv"),
        ("memstatsgc", "bool", "false", "collect garbage before each memory sample"),
        ("universe", "string", "", "a name that keeps the results of this run apart from others"),
    ]
    flags += [
        (key, "string", "", f"override {key} from config; see reflow config -help") for key in OVERRIDE_KEYS
    ]
    return flags


USAGE = """Reflow runs programs that are written in the Reflow language, and looks after their results.

Usage of reflow:
\treflow [flags] <command> [args]"""

INTRO = """Reflow runs programs made of tools, files and data: it works out what has to be computed, runs the
tools where there is room, and never computes the same thing twice.

The work is done by commands. A list of them is shown by

\treflow -help

and each explains itself, for example

\treflow run -help

Flags belong to the word they follow: global ones come after "reflow", those of a command after its
name, and parameters of a program after the program. This runs a program with the cache turned off:

\treflow -cache=off run align.rf -sample=NA12878

Nothing has to be set up: on this machine programs run with the Docker daemon if there is one, otherwise
without; results, records and logs are kept in ~/.reflow (REFLOW_HOME names another place). The
configuration in use is printed by

\treflow config

and explained by "reflow config -help". A file of one's own is used with

\treflow -config myconfig ...

and most keys can be set for one invocation by a global flag of the same name (-cache, -repository, ...).

Clusters and shared caches

Work can also be sent to machines of Amazon EC2, which Reflow starts and stops as needed, and results can
be shared through an S3 bucket and a DynamoDB table. These commands prepare an AWS account for that:

\treflow setup-ec2 -help
\treflow setup-s3-repository -help
\treflow setup-dynamodb-assoc -help
\treflow setup-taskdb -help"""
