"""Evaluation of execs and of resource annotations.

An exec waits for its parameters and for all of its arguments; then the command is rendered, with files, dirs
and lists left to the executor, which knows the paths.
Source: syntax/eval.go, ExprExec, exec, evalRequirements, makeResources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.fileset import File, Fileset
from reflow.core.resources import Resources
from reflow.flow.node import ArgRef, Coerce, Exec, Flow, K, Requires, Val
from reflow.lang import number
from reflow.lang import syntax as s
from reflow.lang.abbrev import abbrev
from reflow.lang.coerce import to_fileset
from reflow.lang.diagnostic import EvalError
from reflow.lang.digest_expr import exec_material, exec_outputs
from reflow.lang.env import Env
from reflow.lang.evaluation import Session, Site, decl_ident, evaluate
from reflow.lang.force import force
from reflow.lang.limit import MAX_COMMAND
from reflow.lang.source import Pos
from reflow.lang.types import Type
from reflow.lang.value import Dir, Value

COERCE_OUTPUT_TAG = Digest.of_text("grail.com/reflow/syntax.Eval.coerceExecOutput")

_FILE_KINDS = frozenset({"file", "dir"})


_SCALARS: dict[str, Callable[[Any], str]] = {
    "string": lambda value: _doubled(value.decode("utf-8", "surrogateescape")),
    "int": number.int_text,
    "float": number.general_text,
}
"""Arguments that become part of the command's text, by the kind of their type."""


class _Output(NamedTuple):
    """A declared output: its number in the exec's result, -1 when the template does not mention it."""

    number: int
    is_dir: bool


class _Plan:
    """What all execs of one expression have in common: everything but the values of its inputs.

    ``parameters`` are names in order. ``inputs`` are the interpolations that are no outputs; those whose type
    is scalar stand between two of the ``texts``, the others are dependencies and have a ``%s`` in them.
    ``types`` are those of all values: parameters, then inputs.
    """

    __slots__ = (
        "arg_names",
        "argmap",
        "inputs",
        "output_is_dir",
        "output_names",
        "outputs",
        "parameters",
        "pos",
        "texts",
        "types",
    )

    def __init__(self, expr: s.ExecExpr) -> None:
        self.pos = expr.pos
        self.parameters = tuple([_parameter_name(decl) for decl in expr.decls])
        declared = dict(exec_outputs(expr))
        self.inputs: list[s.Expr] = []
        self.texts: list[str] = [""]
        self.argmap: tuple[ArgRef, ...] = ()
        self.arg_names: tuple[str, ...] = ()
        indices: dict[str, int] = {}
        self._lay_out(expr.template, declared, indices)
        self.types = [_typed(decl) for decl in expr.decls] + [arg.type for arg in self.inputs]
        self.output_names = tuple(indices)
        self.output_is_dir = tuple([declared[name].kind == "dir" for name in indices])
        self.outputs = [_Output(indices.get(name, -1), each.kind == "dir") for name, each in declared.items()]

    def _lay_out(self, template: s.Template, declared: Mapping[str, Type], indices: dict[str, int]) -> None:
        """Go through the template, giving outputs their ``indices`` as they appear."""
        refs: list[ArgRef] = []
        names: list[str] = []
        texts = self.texts
        texts[0] = _doubled(template.fragments[0])
        for arg, fragment in zip(template.args, template.fragments[1:], strict=True):
            if isinstance(arg, s.Ident) and arg.name in declared:
                refs.append(ArgRef(indices.setdefault(arg.name, len(indices)), is_output=True))
                names.append(f"{{{{{arg.name}}}}}")
                texts[-1] += "%s"
            else:
                self.inputs.append(arg)
                if arg.type.kind in _SCALARS:
                    texts.append("")
                else:
                    refs.append(ArgRef(sum(not ref.is_output for ref in refs), is_output=False))
                    names.append(f"{{{{{abbrev(arg)}}}}}")
                    texts[-1] += "%s"
            texts[-1] += _doubled(fragment)
        self.argmap, self.arg_names = tuple(refs), tuple(names)

    def render(self, values: Sequence[Value]) -> tuple[str, list[Flow]]:
        """The command, and the nodes that it depends on, for values of the inputs."""
        pieces = [self.texts[0]]
        size = 0
        deps: list[Flow] = []
        for arg, value in zip(self.inputs, values, strict=True):
            show = _SCALARS.get(arg.type.kind)
            if show is None:
                deps.append(Val(to_fileset(value, arg.type)))
            else:
                pieces += (show(value), self.texts[len(pieces) // 2 + 1])
                size += len(pieces[-2]) + len(pieces[-1])
                if size > MAX_COMMAND:
                    raise EvalError(f"command is too long: more than {MAX_COMMAND} characters", self.pos)
        return "".join(pieces) if len(pieces) > 1 else pieces[0], deps

    def take(self, result: Fileset) -> Value:
        """The declared outputs in an exec's result; one that the template does not mention is empty."""
        members = result.members or ()
        if len(members) != len(self.output_names):
            counts = f"expected size {len(self.output_names)}, got {len(members)}"
            raise EvalError(f"bad exec result: {counts} (argmap {list(self.argmap)})", self.pos)
        values = tuple([self._output(output, members) for output in self.outputs])
        return values[0] if len(values) == 1 else values

    def _output(self, output: _Output, members: Sequence[Fileset]) -> Value:
        if output.number < 0:
            return Dir() if output.is_dir else File()
        fileset = members[output.number]
        if output.is_dir:
            return Dir(fileset.files)
        try:
            return fileset.file()
        except ReflowError as error:
            name = self.output_names[output.number]
            raise EvalError(f"output file not created in {error}: no file for {name}", self.pos) from error


@lru_cache(maxsize=4096)
def _plan(expr: s.ExecExpr) -> _Plan:
    return _Plan(expr)


def _parameter_name(decl: s.Decl) -> str:
    assert isinstance(decl, s.Assign), "parameters are assignments"
    assert isinstance(decl.pattern, s.IdentPattern), "parameters are plain names"
    return decl.pattern.name


def _typed(decl: s.Decl) -> Type:
    assert isinstance(decl, s.Assign), "parameters are assignments"
    return decl.expr.type


def _doubled(text: str) -> str:
    return text.replace("%", "%%")


def evaluate_exec(session: Session, env: Env, expr: s.ExecExpr, ident: str) -> Value:
    """The exec's outputs: a node that runs it, or one that waits for what its command is made of."""
    plan = _plan(expr)
    values = _parameters(session, env, expr.decls, ident)
    image = _immediate_image(expr, plan, values)
    has_delayed_text = has_files = False
    for arg in plan.inputs:
        value = evaluate(session, env, arg, ident)
        if arg.type.kind in _FILE_KINDS:
            has_files = True
        elif isinstance(value, Flow):
            has_delayed_text = True
        values.append(force(value, arg.type))
    site = Site(session, env, expr, ident)
    op = partial(exec_material, image, expr.template)
    node = site.wait(values, plan.types, partial(_build, image), op)
    if isinstance(node, K):
        node.affected = has_delayed_text and has_files
    return node


def _immediate_image(expr: s.ExecExpr, plan: _Plan, values: Sequence[Value]) -> str:
    """The image; like the mark of a nondeterministic exec it must be there when the exec is evaluated."""
    image = b""
    for name, value, decl in zip(plan.parameters, values, expr.decls, strict=True):
        if name not in ("image", "nondeterministic"):
            continue
        if isinstance(value, Flow):
            raise EvalError(f"exec parameter {name} is delayed, want an immediate value", decl.pos)
        if name == "image":
            image = value
    return image.decode("utf-8", "surrogateescape")


def _build(image: str, site: Site, values: list[Value]) -> Flow:
    """The exec's node, under the one that turns its result into the declared outputs."""
    expr: s.ExecExpr = site.expr
    plan = _plan(expr)
    parameters = dict(zip(plan.parameters, values, strict=False))
    command, deps = plan.render(values[len(plan.parameters) :])
    site.session.see_image(image)
    node = Exec(
        image,
        command,
        deps,
        argmap=plan.argmap,
        arg_names=plan.arg_names,
        output_names=plan.output_names,
        output_is_dir=plan.output_is_dir,
        resources=resources_of(parameters, expr.pos),
        is_nondeterministic=bool(parameters.get("nondeterministic", False)),
        ident=site.ident,
        pos=expr.pos,
    )
    return Coerce(plan.take, node, COERCE_OUTPUT_TAG, ident=site.ident)


def _parameters(session: Session, env: Env, decls: Sequence[s.Decl], ident: str) -> list[Value]:
    values = []
    for decl in decls:
        assert isinstance(decl, s.Assign), "parameters are assignments"
        values.append(evaluate(session, env, decl.expr, decl_ident(decl, ident)))
    return values


# ---------------------------------------------------------------------------------------- resources


def resources_of(parameters: Mapping[str, Value], pos: Pos) -> Resources:
    """Memory, CPU and disk, 0 when not stated, and each CPU feature in the amount of the CPUs."""
    amounts = {name: _amount(parameters.get(name, 0), name, pos) for name in ("mem", "cpu", "disk")}
    for feature in parameters.get("cpufeatures", ()):
        if isinstance(feature, Flow):
            raise EvalError("cpufeatures holds a delayed string, want an immediate one", pos)
        amounts[feature.decode("utf-8", "surrogateescape")] = amounts["cpu"]
    return _shared(tuple(amounts.items()))


@lru_cache(maxsize=1024)
def _shared(amounts: tuple[tuple[str, float], ...]) -> Resources:
    """One object for all execs that ask for the same."""
    return Resources(dict(amounts))


def _amount(value: Any, name: str, pos: Pos) -> float:
    if isinstance(value, Flow):
        raise EvalError(f"resource {name} is delayed, want an immediate value", pos)
    return float(number.low_64(value)) if isinstance(value, int) else number.to_double(value)


def evaluate_requires(session: Session, env: Env, expr: s.RequiresExpr, ident: str) -> Value:
    """The forced value; when it is delayed, under a node with the stated requirements."""
    values = _parameters(session, env, expr.decls, ident)
    names = [_parameter_name(decl) for decl in expr.decls]
    parameters = dict(zip(names, values, strict=True))
    minimum = resources_of(parameters, expr.pos)
    width = 0
    if parameters.get("wide", False):
        session.trace(f"WARNING: setting `wide := true` has no real effect: {expr.pos}")
        width = 1
    value = force(evaluate(session, env, expr.expr, ident), expr.type)
    return Requires(value, minimum, width) if isinstance(value, Flow) else value
