"""Documentation of a module as text: its parameters, then what it exports.

Source: tool/doc.go.
"""

from __future__ import annotations

from reflow.lang.abbrev import abbrev
from reflow.lang.builtins.registry import NAMES, PREFIX
from reflow.lang.module import Module, Param
from reflow.lang.types import Field
from reflow.lang.wrap import wrap

_WIDTH = 80
_INDENT = "    "


def system_modules_text() -> str:
    """The list of system modules."""
    return "Reflow's system modules are:\n" + "".join([f"\t{PREFIX}{name}\n" for name in NAMES])


def doc_text(module: Module) -> str:
    """The documentation, a text of several lines."""
    parts = []
    params = module.params()
    if params:
        parts += ["Parameters\n\n", *[_param(each) for each in params], "\n"]
    parts.append("Declarations\n\n")
    parts += [_declaration("type", each, module) for each in module.type.aliases]
    parts += [_declaration("val", each, module) for each in module.type.fields]
    return "".join(parts)


def _param(param: Param) -> str:
    value = "(required)" if param.default is None else f"= {abbrev(param.default)}"
    return f"val {param.name} {param.type} {value}\n{_comment(param.doc)}"


def _declaration(keyword: str, field: Field, module: Module) -> str:
    return f"{keyword} {field.name} {field.type}\n{_comment(module.doc(field.name))}\n"


def _comment(text: str) -> str:
    return "".join([f"{_INDENT}{line}\n" for line in wrap(text, _WIDTH)])
