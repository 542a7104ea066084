from __future__ import annotations

from reflow.lang.expand import expand
from reflow.lang.source import NO_POS, Pos, Source
from reflow.lang.tenv import TypeEnv, Use, base_type_env, unused
from reflow.lang.types import INT, STRING, ErrorType, Field, Type, equal, list_of, module_of, ref, struct_of


def names(env: TypeEnv) -> list[str]:
    return [each.name for each in unused(env.symbols())]


def test_an_inner_scope_hides_and_gives_back() -> None:
    env = TypeEnv()
    env.bind("a", INT)
    env.bind("b", STRING)
    env.push()
    env.bind("a", STRING)
    assert (env.values["a"].type, env.values["b"].type) == (STRING, STRING)
    assert [each.name for each in env.pop()] == ["a"]
    assert env.values["a"].type is INT


def test_names_of_a_closed_scope_are_gone() -> None:
    env = TypeEnv()
    env.push()
    env.bind("a", INT)
    env.pop()
    assert env.values == {}


def test_what_is_worth_a_warning() -> None:
    env = TypeEnv()
    env.bind("never", INT, NO_POS, Use.NEVER)
    env.bind("hidden", INT, NO_POS, Use.UNEXPORTED)
    env.bind("Shown", INT, NO_POS, Use.UNEXPORTED)
    env.bind("Local", INT, NO_POS, Use.ALWAYS)
    assert names(env) == ["hidden", "Local"]
    env.values["hidden"].used = True
    assert names(env) == ["Local"]


def test_a_binding_of_the_same_scope_forgets_the_older_one() -> None:
    env = TypeEnv()
    env.bind("a", INT, NO_POS, Use.ALWAYS)
    env.bind("a", STRING, NO_POS, Use.ALWAYS)
    assert names(env) == ["a"]
    env.values["a"].used = True
    assert names(env) == []


def test_warnings_are_in_order_of_place() -> None:
    source = Source("f", "abc")
    env = TypeEnv()
    env.bind("late", INT, Pos(source, 2, 0, 2), Use.ALWAYS)
    env.bind("early", INT, Pos(source, 1, 0, 1), Use.ALWAYS)
    env.bind("nowhere", INT, NO_POS, Use.ALWAYS)
    assert names(env) == ["nowhere", "early", "late"]


def test_the_base_environment() -> None:
    values = base_type_env().values
    assert {name: str(symbol.type) for name, symbol in values.items()} == {
        "file": "func(url string) file",
        "dir": "func(url string) dir",
        "KiB": "int",
        "MiB": "int",
        "GiB": "int",
        "TiB": "int",
    }
    assert values["file"].type.is_flow


# ------------------------------------------------------------------------------------------ aliases


def an_env() -> TypeEnv:
    env = TypeEnv()
    env.aliases["t"] = struct_of([Field("a", INT)])
    inner = module_of([], [Field("Deep", STRING)])
    env.bind("m", module_of([], [Field("T", INT), Field("Inner", inner)]))
    env.bind("x", INT)
    return env


def message(type: Type) -> str:
    assert isinstance(type, ErrorType)
    return type.message


def test_references_are_expanded_at_any_depth() -> None:
    type = list_of(struct_of([Field("f", ref(["t"])), Field("g", ref(["m", "T"]))]))
    assert str(expand(type, an_env())) == "[{f {a int}, g int}]"
    assert equal(expand(ref(["m", "Inner", "Deep"]), an_env()), STRING)


def test_types_without_references_are_left_alone() -> None:
    type = list_of(struct_of([Field("f", INT)]))
    assert expand(type, an_env()) is type


def test_references_that_lead_nowhere() -> None:
    env = an_env()
    assert message(expand(ref(["u"]), env)) == "type alias u not found"
    assert message(expand(ref(["n", "T"]), env)) == "type alias n.T not found: no such module n"
    assert message(expand(ref(["x", "T"]), env)) == "type alias x.T not found: x is not a module"
    assert message(expand(ref(["m", "U"]), env)) == "type alias m.U not found"
    assert message(expand(ref(["m", "U", "V"]), env)) == "type alias m.U.V not found: no such module U"
    assert message(expand(list_of(ref(["u"])), env)) == "type alias u not found"


def test_a_module_used_for_its_types_alone_counts_as_unused() -> None:
    env = an_env()
    expand(ref(["m", "T"]), env)
    assert not env.values["m"].used
