"""Exec configurations, results and inspections as the JSON that is sent and stored.

Names, order and texts are those of the original; `dump_json` of what these functions return are its bytes.
Fields of ours that the original has not (positions, names of arguments, digests of logs) are written only
when asked for, behind its own; its readers ignore them. Readers raise INVALID for what they cannot read.

Source: executor.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from reflow.core.digest import digest_text
from reflow.core.errors import Kind, ReflowError, error_from_json
from reflow.core.execconfig import (
    ExecArg,
    ExecConfig,
    ExecInspect,
    ExecResult,
    ExecType,
    InputArg,
    OutputArg,
    Profile,
    ProfileEntry,
)
from reflow.core.filesetjson import fileset_from_json, fileset_to_json
from reflow.core.gojson import (
    JsonObject,
    fold,
    number,
    parse_digest,
    parse_time,
    time_text,
    unix_time,
)
from reflow.core.resources import NO_RESOURCES, Resources

_T = TypeVar("_T")
_EXEC_TYPES = ("exec", "intern", "extern")
_NO_TIME = unix_time(0)


def resources_to_json(resources: Resources) -> JsonObject | None:
    """An object of numbers, sorted by name; null when there is nothing."""
    return {name: number(resources[name]) for name in sorted(resources)} or None


def resources_from_json(row: Any) -> Resources:
    """Read an object of numbers."""
    return _checked(_read_resources, row, "resources")


def exec_config_to_json(config: ExecConfig, *, with_extras: bool = False) -> JsonObject:
    """An exec's configuration; with extras also position and names of arguments."""
    row: JsonObject = {
        "Type": config.type,
        "Ident": config.ident,
        "URL": config.url,
        "Image": config.image,
        "OriginalImage": config.original_image,
        "Cmd": config.cmd,
        "Args": [_arg_to_json(arg) for arg in config.args] or None,
        "Resources": resources_to_json(config.resources),
        "NeedAWSCreds": config.needs_aws_creds,
        "NeedDockerAccess": config.needs_docker_access,
    }
    if config.output_is_dir:
        row["OutputIsDir"] = list(config.output_is_dir)
    if with_extras and config.arg_names:
        row["ArgNames"] = list(config.arg_names)
    if with_extras and config.position:
        row["Position"] = config.position
    return row


def exec_config_from_json(row: Any) -> ExecConfig:
    """Read an exec's configuration."""
    return _checked(_read_config, row, "exec configuration")


def exec_result_to_json(result: ExecResult) -> JsonObject:
    """A result: its fileset, and its error if it failed."""
    row: JsonObject = {"Fileset": fileset_to_json(result.fileset)}
    if result.error is not None:
        row["Err"] = result.error.to_json()
    return row


def exec_result_from_json(row: Any) -> ExecResult:
    """Read a result."""
    return _checked(_read_result, row, "exec result")


def profile_to_json(profile: Profile) -> JsonObject:
    """Statistics by gauge, sorted by name."""
    return {name: _entry_to_json(profile[name]) for name in sorted(profile)}


def profile_from_json(row: Any) -> Profile:
    """Read statistics by gauge."""
    return _checked(_read_profile, row, "profile")


def exec_inspect_to_json(inspect: ExecInspect, *, with_extras: bool = False) -> JsonObject:
    """What is known of an exec. The run time is told by two times inside ``Docker``, as Docker does."""
    row: JsonObject = {
        "Created": time_text(inspect.created),
        "Config": exec_config_to_json(inspect.config, with_extras=with_extras),
        "State": inspect.state,
        "Status": inspect.status,
    }
    if inspect.error is not None:
        row["Error"] = inspect.error.to_json()
    row["Profile"] = profile_to_json(inspect.profile) or None
    row["Gauges"] = {name: number(inspect.gauges[name]) for name in sorted(inspect.gauges)} or None
    row["Commands"] = list(inspect.commands) or None
    row["Docker"] = _docker_to_json(inspect.created, inspect.runtime_s)
    if inspect.exec_error is not None:
        row["ExecError"] = inspect.exec_error.to_json()
    if with_extras and inspect.stdout is not None:
        row["Stdout"] = digest_text(inspect.stdout)
    if with_extras and inspect.stderr is not None:
        row["Stderr"] = digest_text(inspect.stderr)
    return row


def exec_inspect_from_json(row: Any) -> ExecInspect:
    """Read what is known of an exec."""
    return _checked(_read_inspect, row, "exec inspection")


def _checked(read: Callable[[Any], _T], row: Any, what: str) -> _T:
    try:
        return read(row)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as err:
        raise ReflowError(Kind.INVALID, "wire.decode", what, cause=err) from err


def _arg_to_json(arg: ExecArg) -> JsonObject:
    if isinstance(arg, OutputArg):
        return {"Out": True, "Index": arg.index}
    return {"Out": False, "Fileset": fileset_to_json(arg.fileset), "Index": 0}


def _read_arg(row: Any) -> ExecArg:
    fields = fold(row)
    if fields.get("out"):
        return OutputArg(int(fields.get("index") or 0))
    return InputArg(fileset_from_json(fields.get("fileset")))


def _read_resources(row: Mapping[str, float] | None) -> Resources:
    if not row:
        return NO_RESOURCES
    return Resources({name: float(amount) for name, amount in row.items()})


def _read_config(row: Any, *, may_be_absent: bool = False) -> ExecConfig:
    fields = fold(row)
    if may_be_absent and not fields:
        fields = {"type": ""}
    elif fields.get("type") not in _EXEC_TYPES:
        raise ValueError(f"type is {fields.get('type')!r}, want one of {', '.join(_EXEC_TYPES)}")
    return ExecConfig(
        type=cast("ExecType", fields["type"]),
        ident=fields.get("ident") or "",
        url=fields.get("url") or "",
        image=fields.get("image") or "",
        original_image=fields.get("originalimage") or "",
        cmd=fields.get("cmd") or "",
        args=tuple([_read_arg(arg) for arg in fields.get("args") or ()]),
        arg_names=tuple(fields.get("argnames") or ()),
        resources=_read_resources(fields.get("resources")),
        needs_aws_creds=bool(fields.get("needawscreds")),
        needs_docker_access=bool(fields.get("needdockeraccess")),
        output_is_dir=tuple([bool(each) for each in fields.get("outputisdir") or ()]),
        position=fields.get("position") or "",
    )


def _read_result(row: Any) -> ExecResult:
    fields = fold(row)
    return ExecResult(fileset_from_json(fields.get("fileset")), _read_error(fields.get("err")))


def _read_error(row: JsonObject | None) -> ReflowError | None:
    return error_from_json(row) if row else None


def _entry_to_json(entry: ProfileEntry) -> JsonObject:
    return {
        "Max": number(entry.max),
        "Mean": number(entry.mean),
        "Var": number(entry.var),
        "N": entry.n,
        "First": time_text(entry.first),
        "Last": time_text(entry.last),
    }


def _read_profile(row: Mapping[str, Any] | None) -> Profile:
    return {name: _read_entry(fold(entry)) for name, entry in (row or {}).items()}


def _read_entry(fields: JsonObject) -> ProfileEntry:
    return ProfileEntry(
        float(fields.get("max") or 0.0),
        float(fields.get("mean") or 0.0),
        float(fields.get("var") or 0.0),
        int(fields.get("n") or 0),
        parse_time(fields.get("first")),
        parse_time(fields.get("last")),
    )


def _docker_to_json(created: datetime, runtime_s: float) -> JsonObject:
    row: JsonObject = {"Mounts": None, "Config": None, "NetworkSettings": None}
    if runtime_s <= 0:
        return row
    finished = created + timedelta(seconds=runtime_s)
    return {"State": {"StartedAt": time_text(created), "FinishedAt": time_text(finished)}, **row}


def _runtime_s(docker: Any) -> float:
    """Seconds between start and end that Docker reported; 0 when it did not."""
    state = fold(fold(docker).get("state"))
    try:
        started, finished = parse_time(state.get("startedat")), parse_time(state.get("finishedat"))
    except ValueError:
        return 0.0
    if started is None or finished is None:
        return 0.0
    return max(0.0, (finished - started).total_seconds())


def _read_inspect(row: Any) -> ExecInspect:
    fields = fold(row)
    return ExecInspect(
        config=_read_config(fields.get("config"), may_be_absent=True),
        created=parse_time(fields.get("created")) or _NO_TIME,
        state=fields.get("state") or "",
        status=fields.get("status") or "",
        error=_read_error(fields.get("error")),
        exec_error=_read_error(fields.get("execerror")),
        profile=_read_profile(fields.get("profile")),
        gauges={name: float(value) for name, value in (fields.get("gauges") or {}).items()},
        commands=tuple(fields.get("commands") or ()),
        runtime_s=_runtime_s(fields.get("docker")),
        stdout=parse_digest(fields.get("stdout")),
        stderr=parse_digest(fields.get("stderr")),
    )
