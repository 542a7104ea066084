"""System modules: their interface files, and what their functions do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.fileset import File, Fileset
from reflow.flow.digest import digest
from reflow.flow.node import Coerce, Data, Exec, Extern, Flow, Intern, K, Val
from reflow.lang import types as t
from reflow.lang.builtins import base
from reflow.lang.builtins.interface import DIRECTORY, parse_interface
from reflow.lang.builtins.registry import NAMES, SystemModule, system_module
from reflow.lang.builtins.repeat import fileset_difference, repeat_and_check
from reflow.lang.diagnostic import EvalError
from reflow.lang.digest_value import value_digest
from reflow.lang.force import to_flow
from reflow.lang.session import Session
from reflow.lang.source import Pos, Source
from reflow.lang.value import UNIT, CallSite, Dir, MapValue

SITE_POS = Pos(Source("m.rf", "val Main = f(x)\n"), 12, 11, 12)


def call(path: str, *args: Any, session: Session | None = None) -> Any:
    name, _, function = path.partition(".")
    module = system_module(name)
    assert module is not None
    return module.functions[function].apply(list(args), CallSite(session or Session(), SITE_POS, "m.Main"))


def file_of(text: str) -> File:
    return File(Digest.of_text(text), len(text))


def mapping(entries: dict[bytes, Any]) -> MapValue:
    return MapValue([(value_digest(key, t.STRING), key, value) for key, value in entries.items()])


# ----------------------------------------------------------------------------------------- interface


def test_each_module_has_an_interface_file_and_the_other_way_round() -> None:
    assert sorted(os.listdir(DIRECTORY)) == [f"{name}.rf" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_function_is_implemented_and_documented(name: str) -> None:
    from importlib import import_module

    module = SystemModule(name)
    assert set(module.functions) == set(import_module(f"reflow.lang.builtins.{name}").FUNCTIONS)
    assert all(module.doc(function).startswith(function) for function in module.functions)


def test_an_interface_is_read_with_comments_and_shared_types() -> None:
    (first, second) = parse_interface(
        "// Head.\n\n// Two\n// lines.\nfunc F(a, b [string:(int, file)], c unit) dir\n"
        "func G(x top) fileset\n"
    )
    assert str(first.type) == "func(a, b [string:(int, file)], c unit) dir"
    assert first.doc == "Two\nlines.\n"
    assert (second.name, str(second.type), second.doc) == ("G", "func(x top) fileset", "")


def test_a_function_is_named_by_module_and_name() -> None:
    module = system_module("strings")
    assert module is not None
    assert module.functions["Join"].digest == Digest.of(b"$/stringsJoin")
    assert base.FILE.digest == Digest.of(b"$/file")


# ----------------------------------------------------------------------------------- immediate calls


@pytest.mark.parametrize(
    ("path", "args", "result"),
    [
        ("strings.Split", (b"a,b,,c", b","), [b"a", b"b", b"", b"c"]),
        ("strings.Split", (b"", b""), []),
        ("strings.Split", (b"", b","), [b""]),
        (
            "strings.Split",
            ("é\udcffx".encode("utf-8", "surrogateescape"), b""),
            ["é".encode(), b"\xff", b"x"],
        ),
        ("strings.Chunk", (b"a\xffb\xfec", 4), [b"a\xef\xbf\xbd", b"b\xef\xbf\xbd", b"c"]),
        ("strings.Chunk", (b"\xff", 4), [b"\xff"]),
        ("strings.Chunk", (b"", 4), [b""]),
        ("strings.Join", ([b"a", b"b"], b"-"), b"a-b"),
        ("strings.HasPrefix", (b"chr1", b"chr"), True),
        ("strings.HasSuffix", (b"x", b"xx"), False),
        ("strings.Sort", ([b"b", b"\xff", b"a", b"B"],), [b"B", b"a", b"b", b"\xff"]),
        ("strings.FromInt", (-(1 << 70),), b"-1180591620717411303424"),
        ("path.Base", (b"a/b/",), b"b"),
        ("path.Dir", (b"/a",), b"/"),
        ("path.Dir", (b"s3://",), b"s3:/"),
        ("path.Ext", (b"a.b.c",), b".c"),
        ("path.Join", ([b"s3:/", b"", b"b"],), b"s3://b"),
        ("regexp.Groups", (b"ac", b"a(b)?(c)"), [b"", b"c"]),
        ("regexp.Match", (b"abc", b"b"), True),
        ("regexp.Replace", (b"abc", b"(b)", b"[$1]"), b"a[b]c"),
        ("test.Assert", ([True, True],), UNIT),
        ("test.All", ([],), True),
        ("test.AssertMap", (mapping({b"a": True}),), True),
    ],
)
def test_a_function_gives(path: str, args: tuple[Any, ...], result: Any) -> None:
    assert call(path, *args) == result


def test_a_float_survives_text_and_back() -> None:
    value = call("strings.ToFloat", b"0.1")
    assert call("strings.FromFloat", value, 40) == b"0.1000000000000000000013552527156068805425"
    assert call("strings.FromFloat", value, -1) == b"0.1"


@pytest.mark.parametrize(
    ("path", "args", "message"),
    [
        ("strings.Chunk", (b"abc", 3), "strings.Chunks: maxLen 3 must be >= 4"),
        ("strings.ToFloat", (b"",), "EOF"),
        ("strings.ToFloat", (b"1_0",), "expected end of string, found '_'"),
        ("regexp.Groups", (b"x", b"(y)"), "regexp (y) does not match string x"),
        ("test.Assert", ([False, True, False],), "m.rf:1:13 failed assertion m.Main[0 2]"),
        ("test.All", ([True, False, False],), "m.rf:1:13 failed assertion m.Main[1]"),
        ("test.AssertMap", (mapping({b"z": False, b"a": False}),), "m.rf:1:13 failed assertion m.Main[a, z]"),
        ("dirs.Pick", (Dir(), b"["), "dirs.Pick: no files matched ["),
        ("dirs.Pick", (Dir({"a": file_of("a")}), b"["), "syntax error in pattern"),
        ("dirs.Copy", (Dir(), b"out//"), "dirs.Copy: scheme not provided in destination url out/"),
        ("files.Copy", (file_of("a"), b"out/"), "files.Copy: scheme not provided in destination url out"),
        (
            "test.ExecRepeatAndCheck",
            (1, 2),
            "m.rf:1:13 m.Main: precondition was not met: no execs to repeat",
        ),
    ],
)
def test_a_call_fails_with(path: str, args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(EvalError) as caught:
        call(path, *args)
    assert str(caught.value) == message


def test_an_error_with_a_place_shows_the_call() -> None:
    with pytest.raises(EvalError) as caught:
        call("test.Assert", [False])
    assert caught.value.render().splitlines()[1:] == ["  1 | val Main = f(x)", "    |            ^"]


def test_created_data_may_not_be_huge() -> None:
    with pytest.raises(EvalError, match=r"data is too large \(10MB\); files.Create data may not exceed 10MB"):
        call("files.Create", b"x" * ((10 << 20) + 1))


def test_directories_are_made_summed_and_listed_by_path() -> None:
    one, two = file_of("1"), file_of("2")
    made = call("dirs.FromList", [(b"b", one), (b"a/z", one), (b"a", one), (b"a", two)])
    assert list(made.items()) == [("a", two), ("a/z", one), ("b", one)]
    assert call("dirs.Files", made) == [two, one, one]
    assert call("dirs.Sum", [made, Dir({"b": two})]).files["b"] == two
    assert call("dirs.Sum", []).files == {}
    assert call("dirs.Make", mapping({b"\xff": one})).files == {"\udcff": one}


def test_groups_need_exactly_one_group() -> None:
    directory = Dir({name: file_of(name) for name in ("s1_a", "s1_b", "s2_a", "other")})
    grouped = call("dirs.Groups", directory, b"(s[0-9])_")
    assert {key: value.paths() for key, value in grouped.items()} == {
        b"s1": ["s1_a", "s1_b"],
        b"s2": ["s2_a"],
    }
    assert len(call("dirs.Groups", directory, b"s(.)_(.)")) == 0


# ------------------------------------------------------------------------------------- delayed calls


def test_a_delayed_argument_delays_the_call_under_a_digest_of_the_others() -> None:
    delayed = to_flow(b"a,b", t.STRING)
    made = call("strings.Split", delayed, b",")
    assert isinstance(made, K)
    assert (made.deps, made.ident, made.pos) == ((delayed,), "m.Main", SITE_POS)
    assert made.tag == Digest.of(b"\x03," + Digest.of(b"$/stringsSplit").wire)
    result = made.fn([b"a,b"])
    assert isinstance(result, Val)
    assert result.value == [b"a", b"b"]
    assert made.fn([b"x"]).value == [b"x"]  # type: ignore[attr-defined]  # may be called again


def test_a_forcing_function_waits_for_members() -> None:
    made = call("strings.Join", [b"a", to_flow(b"b", t.STRING)], b"-")
    assert isinstance(made, K)
    assert isinstance(made.deps[0], K)


def test_a_copy_is_an_extern_of_a_value() -> None:
    made = call("dirs.Copy", Dir({"a": file_of("a")}), b"S3://b/x///")
    assert isinstance(made, Extern)
    assert made.url == "s3://b/x/"
    assert isinstance(made.deps[0], Val)
    assert made.deps[0].value == Fileset({"a": file_of("a")})


# ------------------------------------------------------------------------------------ files and dirs


def site(session: Session) -> CallSite:
    return CallSite(session, SITE_POS, "m.Main")


def test_a_url_is_interned_as_it_is_written_but_for_its_scheme() -> None:
    made = base.FILE.apply([b"S3://b/a b//"], site(Session()))
    assert isinstance(made, Coerce)
    assert isinstance(made.deps[0], Intern)
    assert made.deps[0].url == "s3://b/a b"
    assert made.tag == Digest.of(b"file.fs$file")
    directory = base.DIR.apply([b"s3://b"], site(Session()))
    assert directory.deps[0].url == "s3://b/"
    assert directory.tag == Digest.of(b"$dir.fs2dir")


def test_an_interned_fileset_that_is_no_lone_file_is_missing() -> None:
    made = base.FILE.apply([b"s3://b/a"], site(Session()))
    with pytest.raises(ReflowError, match="file s3://b/a: resource does not exist"):
        made.fn(Fileset())


def test_a_local_file_is_checked_but_not_read(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("hello\n")
    session = Session()
    made = base.FILE.apply([str(path).encode() + b"//"], site(session))
    (data,) = made.deps
    assert isinstance(data, Data)
    (local,) = session.local_files
    assert data.content is local
    assert not local.is_hashed
    assert base.FILE.apply([str(path).encode()], site(session)).deps[0].content is local
    assert digest(data) == Digest.of(b"maxOphello\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("gone", "open {}/gone: no such file or directory"), (".", "read {}/.: is a directory")],
)
def test_a_local_file_that_cannot_be_read_is_an_error_at_the_call(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(EvalError) as caught:
        base.FILE.apply([f"{tmp_path}/{name}".encode()], site(Session()))
    assert str(caught.value) == f"m.rf:1:13 m.Main: {reason.format(tmp_path)}"


def test_a_local_name_that_is_no_url_is_a_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("50%zz", "a:b", "new\nline"):
        (tmp_path / name).write_text(name)
        made = base.FILE.apply([name.encode()], site(Session()))
        assert made.deps[0].content.digest == Digest.of_text(name)


def test_a_local_directory_has_all_files_below_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b", "a", "sub/c"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("sub")
    (tmp_path / "broken").symlink_to("nowhere")
    made = base.DIR.apply([str(tmp_path).encode()], site(Session()))
    assert isinstance(made, K)
    assert made.tag == Digest.of(b"file.fs$file2")
    values = [Fileset.of_file(File(dep.content.digest, dep.content.size)) for dep in made.deps]
    assert made.fn(values).value.paths() == ["a", "b", "link/c", "sub/c"]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.touch()])
def test_a_directory_without_files_is_an_error(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "d"
    make(path)
    with pytest.raises(EvalError, match=f"empty directory {path}/"):
        base.DIR.apply([str(path).encode()], site(Session()))


def test_a_directory_that_holds_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "again").symlink_to(".")
    with pytest.raises(EvalError, match="symbolic link to a directory above it"):
        base.DIR.apply([str(tmp_path).encode()], site(Session()))


def test_the_root_of_the_machine_is_no_input() -> None:
    with pytest.raises(EvalError, match="name a directory below it"):
        base.DIR.apply([b""], site(Session()))


def test_a_pipe_is_read_at_once(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"piped")
    os.close(writer)
    made = base.FILE.apply([f"/dev/fd/{reader}".encode()], site(Session()))
    os.close(reader)
    assert made.deps[0].content == b"piped"


# ------------------------------------------------------------------------------------------- repeat


def exec_node(**more: Any) -> Exec:
    return Exec("image", "x > %s", output_is_dir=(False,), argmap=(), ident="m.once", **more)


def test_repeats_have_digests_of_their_own_and_the_rest_keeps_its_own() -> None:
    later = K(lambda _values: exec_node(), [], Digest.of(b"later"))
    top = repeat_and_check(later, 3, print)
    root = top.deps[0]
    assert root is not later
    assert digest(root) == digest(later)
    assert isinstance(root, K)
    node = root.fn([])
    aggregate = top.fn([None])  # type: ignore[attr-defined]
    (comparison,) = aggregate.deps
    assert [digest(dep) == digest(node) for dep in comparison.deps] == [True, False, False]
    assert [dep.ident for dep in comparison.deps[1:]] == [
        f"m.once_{digest(node).short}.repeat.{index}" for index in (1, 2)
    ]


def test_outcomes_are_told_and_joined() -> None:
    told: list[str] = []
    top = repeat_and_check(exec_node(), 2, told.append)
    aggregate = top.fn([None])  # type: ignore[attr-defined]
    assert aggregate.fn([(b"a: all same", True), (b"b: differs", False)]).value is False
    assert told == ["repeated exec result a: all same", "repeated exec result b: differs"]


def test_nothing_to_repeat_is_an_error_and_skipping_all_is_not() -> None:
    nothing = repeat_and_check(to_flow(1, t.INT), 2, print).fn([None])  # type: ignore[attr-defined]
    assert "no execs to repeat" in str(nothing.error)
    told: list[str] = []
    skipped: Flow = repeat_and_check(exec_node(is_nondeterministic=True), 2, told.append)
    assert skipped.fn([None]).value is True  # type: ignore[attr-defined]
    assert told == ["no repeated execs (1 were skipped)"]


def test_filesets_differ_by_path() -> None:
    left = Fileset(members=[Fileset({"a": file_of("1"), "b": file_of("2")}), Fileset()])
    right = Fileset(members=[Fileset({"a": file_of("1"), "b": file_of("3")}), Fileset({".": file_of("4")})])
    old, new, more = (file_of(text).short() for text in "234")
    assert fileset_difference(left, right) == f'  [0]:"b" = {old} -> {new}\n[1]:empty -> val<.={more} 1B>'
    assert fileset_difference(left, left) == ""
