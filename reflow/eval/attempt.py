"""What is submitted for a node, and what follows from how it went: pure decisions.

Minimums and caps are applied here and never enter digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.execconfig import ExecArg, ExecConfig, InputArg, OutputArg
from reflow.core.fileset import Fileset
from reflow.core.resources import Resources
from reflow.core.units import format_size
from reflow.flow.node import Exec, Extern, Flow, Intern, strip_qualifiers

MIN_EXEC = Resources(mem=float(500 << 20), cpu=1.0)
MAX_RETRIES = 3
OOM_FACTOR = 1.5
OOM_MEM_LIMIT_BYTES = float(800 << 30)
CAP_TOLERANCE = 1 / (1 - 0.05)
"""A request this much above the machine's memory is cut to it: machines give a little less than they have."""


def build_config(node: Flow, values: Sequence[Fileset], image: str | None) -> ExecConfig:
    """What an exec, intern or extern asks of a machine. ``image`` is the resolved one, if any."""
    position = str(node.pos)
    if isinstance(node, Intern):
        return ExecConfig(type="intern", ident=node.ident, url=node.url, position=position)
    if isinstance(node, Extern):
        arguments = (InputArg(values[0]),)
        return ExecConfig(type="extern", ident=node.ident, url=node.url, args=arguments, position=position)
    assert isinstance(node, Exec), f"nothing runs for {node}"
    name, aws, docker = strip_qualifiers(node.image)
    return ExecConfig(
        type="exec",
        ident=node.ident,
        image=image or name,
        original_image=node.image,
        cmd=node.cmd,
        args=tuple([_argument(ref.index, ref.is_output, values) for ref in node.arguments]),
        arg_names=node.arg_names,
        resources=node.resources.at_least(MIN_EXEC),
        needs_aws_creds=aws,
        needs_docker_access=docker,
        output_is_dir=node.output_is_dir,
        output_names=node.output_names,
        position=position,
    )


def _argument(index: int, is_output: bool, values: Sequence[Fileset]) -> ExecArg:
    return OutputArg(index) if is_output else InputArg(values[index])


def cap_memory(wanted: Resources, most: Resources) -> Resources:
    """``wanted`` with memory cut to the most there is, when it asks for only a little more."""
    limit, mem = most.amount("mem"), wanted.amount("mem")
    if limit < mem <= limit * CAP_TOLERANCE:
        return Resources({**wanted, "mem": limit})
    return wanted


def is_too_large(node: Flow, most: Resources) -> bool:
    """Whether a node asks for more than ``most``, as far as that is known (it is not empty)."""
    if not isinstance(node, Exec) or not most:
        return False
    return bool(most.short_of(cap_memory(node.resources.at_least(MIN_EXEC), most)))


class Retry(NamedTuple):
    """Try again with other resources: why (a word), and what is said of it."""

    reason: str
    message: str
    resources: Resources


def plan_retry(
    error: ReflowError, used: Resources, most: Resources, retries: int, specified: Resources | None = None
) -> Retry | None:
    """Decide what follows a failed exec; None means that its failure stands.

    ``retries`` is the number of retries so far, ``specified`` what its program says, when it was given
    something else because that was predicted. Source: flow/eval.go, (*Eval).Do and oomAdjust.
    """
    if retries >= MAX_RETRIES:
        return None
    kind = kind_of(error)
    mem = used.amount("mem")
    default = mem if specified is None else specified.amount("mem")
    if kind is not Kind.OOM and mem < default:
        lesser, usual = format_size(mem), format_size(default)
        what = f"non-OOM error, switch from predicted ({lesser}) to default ({usual}) memory"
        return _retry("Predictor", what, Resources({**used, "mem": default}), retries, error)
    if kind is Kind.OOM:
        limit = min(OOM_MEM_LIMIT_BYTES, most.get("mem", OOM_MEM_LIMIT_BYTES))
        # Whole bytes: the amount is shown and stored.
        more = min(default if mem < default else mem * OOM_FACTOR, limit) // 1
        if more <= mem:
            return None
        larger = Resources({**used, "mem": more})
        return _retry("OOM", f"{format_size(more)} of memory", larger, retries, error)
    if kind is Kind.TEMPORARY:
        return _retry("Temporary", "", used, retries, error)
    return None


def _retry(reason: str, what: str, resources: Resources, retries: int, error: ReflowError) -> Retry:
    message = f"{what}({retries + 1}/{MAX_RETRIES}) due to error: {error}"
    return Retry(reason, message, resources)


def missing_outputs(node: Exec, value: Fileset) -> str:
    """Say which output files of an exec have no file in its value; empty when all have.

    The original caches such values: it does not notice that a command has not written its output.
    """
    members = value.members or ()
    if all([member.files for member in members]):
        return ""
    outputs = zip(node.output_names, node.output_is_dir, members, strict=False)
    names = [name for name, is_dir, member in outputs if not is_dir and not member.files]
    return f"its value has no file for {', '.join(names)}" if names else ""
