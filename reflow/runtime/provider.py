"""The keys of the configuration, and the providers that each may name.

A value is ``provider[,flag=value]…``. Tables only; what a provider does is chosen in `reflow.runtime.wiring`.
"""

from __future__ import annotations

from typing import NamedTuple


class ProviderFlag(NamedTuple):
    """A flag of a provider; ``default`` is its text."""

    name: str
    default: str
    usage: str
    is_bool: bool = False


class Provider(NamedTuple):
    """One way to provide a key. ``has_section``: takes structured settings under a key of its own name."""

    name: str
    usage: str
    flags: tuple[ProviderFlag, ...] = ()
    has_section: bool = False


class Key(NamedTuple):
    """A key of the configuration: its built-in value, empty for none."""

    name: str
    default: str
    providers: tuple[Provider, ...]


def _flag(name: str, default: str, usage: str) -> ProviderFlag:
    return ProviderFlag(name, default, usage)


_REFLOWLET = Provider(
    "reflowletconfig",
    "settings of the worker processes on a cluster's machines",
    (
        _flag("maxidleduration", "10m", "a machine without work stops itself after this time"),
        _flag("logstatsduration", "1m", "how often a worker logs its statistics"),
        _flag("lowthresholdpct", "55", "disk use in percent at which a volume begins to grow slowly"),
        _flag("highthresholdpct", "75", "disk use in percent at which a volume grows at once"),
        _flag("watchersleepduration", "20s", "how often disk use is looked at"),
        _flag("resizesleepduration", "5s", "how often a growing volume is looked at"),
        _flag("fastthresholdduration", "24h", "growing again within this time counts as fast growth"),
        _flag("fastincreasefactor", "20", "factor of a fast growth"),
        _flag("slowincreasefactor", "5", "factor of a slow growth"),
    ),
    has_section=True,
)

KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        Key(
            "assoc",
            "sqlite",
            (
                Provider(
                    "dynamodbassoc",
                    "the cache's index in a DynamoDB table, shared by everybody who uses the table",
                    (_flag("table", "", "name of the table"),),
                ),
                Provider(
                    "sqlite",
                    "the cache's index in a file of this machine",
                    (_flag("file", "", "the file; by default assoc.db in REFLOW_HOME"),),
                ),
            ),
        ),
        Key("awscreds", "awscreds", (Provider("awscreds", "the credentials of the AWS session"),)),
        Key(
            "awstool",
            "awstool,awstool=grailbio/awstool:latest",
            (
                Provider(
                    "awstool",
                    "an image that has the AWS command line tool",
                    (_flag("awstool", "grailbio/awstool:latest", "the image"),),
                ),
            ),
        ),
        Key(
            "bootstrap",
            "bootstrapimage,uri=bootstrap",
            (
                Provider(
                    "bootstrapimage",
                    "the program that a new machine of a cluster starts with",
                    (_flag("uri", "bootstrap", "where it is; bootstrap means the one built in"),),
                ),
            ),
        ),
        Key(
            "cache",
            "readwrite",
            (
                Provider("off", "results are neither looked up nor stored"),
                Provider("read", "results are looked up, but not stored"),
                Provider("write", "results are stored, but not looked up"),
                Provider("readwrite", "results are looked up and stored (default)"),
            ),
        ),
        Key(
            "cluster",
            "localcluster",
            (
                Provider("ec2cluster", "machines of EC2, started and stopped as needed", has_section=True),
                Provider(
                    "localcluster",
                    "this machine",
                    (_flag("dir", "", "where execs run; by default local in REFLOW_HOME"),),
                ),
            ),
        ),
        Key(
            "docker",
            "docker,memlimit=soft",
            (
                Provider(
                    "docker",
                    "how execs are run",
                    (
                        _flag(
                            "memlimit",
                            "soft",
                            "soft: an exec may use more memory than it asked for; hard: it is killed then",
                        ),
                    ),
                ),
            ),
        ),
        Key(
            "executor",
            "auto",
            (
                Provider("auto", "docker if a daemon answers, else sandbox if it works here, else process"),
                Provider("docker", "containers of the Docker daemon"),
                Provider("sandbox", "unpacked images, entered with bubblewrap: no daemon, no root"),
                Provider("process", "this machine's own tools; images are ignored"),
            ),
        ),
        Key(
            "labels",
            "kv",
            (
                Provider(
                    "kv",
                    "labels of what is stored; user=USER is always among them",
                    (_flag("labels", "", "a list key=value;key=value"),),
                ),
            ),
        ),
        Key(
            "logger",
            "logger",
            (
                Provider(
                    "logger", "messages on stderr", (_flag("level", "info", "off, error, info or debug"),)
                ),
            ),
        ),
        Key(
            "metrics",
            "nopmetrics",
            (
                Provider("nopmetrics", "no metrics"),
                Provider(
                    "prometrics",
                    "metrics for Prometheus",
                    (
                        _flag("namespace", "reflow", "what names of metrics begin with"),
                        _flag(
                            "nodeexporterport", "9101", "port of the node exporter on a cluster's machines"
                        ),
                        _flag("port", "0", "port that the metrics are served on"),
                    ),
                ),
            ),
        ),
        Key(
            "predictor",
            "",
            (
                Provider("predictorconfig", "memory is predicted from earlier runs", has_section=True),
                Provider("testpredictorconfig", "the same from little data, for tests", has_section=True),
            ),
        ),
        Key(
            "reflow",
            "",
            (
                Provider(
                    "reflowversion",
                    "the version of this program; always overwritten",
                    (_flag("version", "", "the version"),),
                ),
            ),
        ),
        Key("reflowlet", "reflowletconfig", (_REFLOWLET,)),
        Key(
            "repository",
            "file",
            (
                Provider("noprepo", "none: local objects go to the place of the provider file"),
                Provider("s3", "objects in an S3 bucket", (_flag("bucket", "", "name of the bucket"),)),
                Provider(
                    "file",
                    "objects in a directory of this machine",
                    (_flag("dir", "", "the directory; by default repository in REFLOW_HOME"),),
                ),
            ),
        ),
        Key("runid", "runid", (Provider("runid", "a fresh random id for each run"),)),
        Key(
            "session",
            "awssession",
            (
                Provider("awssession", "AWS credentials of the environment or the shared credentials file"),
                Provider("ec2metadata", "AWS credentials of the role of this EC2 machine"),
            ),
        ),
        Key(
            "sshkey",
            "key",
            (
                Provider(
                    "key",
                    "a public SSH key that is put on the machines of a cluster",
                    (_flag("key", "", "the key; by default the contents of ~/.ssh/id_rsa.pub"),),
                    has_section=True,
                ),
            ),
        ),
        Key(
            "taskdb",
            "sqlite",
            (
                Provider(
                    "dynamodbtask",
                    "the record of runs and tasks in a DynamoDB table",
                    (
                        _flag("bucket", "", "S3 bucket for logs, graphs and inspections"),
                        _flag("table", "", "name of the table"),
                    ),
                ),
                Provider("noptaskdb", "no record of runs and tasks"),
                Provider("inmemorytaskdb", "a record that is forgotten when the program ends"),
                Provider(
                    "sqlite",
                    "the record of runs and tasks in a file of this machine",
                    (_flag("file", "", "the file; by default taskdb.db in REFLOW_HOME"),),
                ),
            ),
        ),
        Key(
            "tls",
            "tls,file=/tmp/ca.reflow",
            (
                Provider(
                    "tls",
                    "certificates that Reflow's processes know each other by",
                    (_flag("file", "", "PEM file of the authority; made if it is missing"),),
                ),
            ),
        ),
        Key(
            "tracer",
            "noptracer",
            (
                Provider("noptracer", "no trace"),
                Provider("localtracer", "a Chrome trace beside the run's log"),
                Provider("xray", "AWS X-Ray segments"),
            ),
        ),
        Key(
            "user",
            "user",
            (
                Provider(
                    "user", "who runs this", (_flag("user", "", "the name; by default that of the login"),)
                ),
            ),
        ),
    )
}

RESERVED = ("versions", "instances", "infra")
"""Keys of the file that name no provider."""
