"""Stored modules: the same as parsed ones, and never trusted too far."""

from __future__ import annotations

import marshal
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import reflow.lang.parse
from reflow.flow.digest import digest
from reflow.flow.node import Flow
from reflow.lang import module_store
from reflow.lang.diagnostic import SourceError
from reflow.lang.digest_value import own_digest
from reflow.lang.module_store import ModuleStore, default_store, module_key
from reflow.lang.program import load
from reflow.lang.session import Session
from reflow.lang.source import Source
from reflow.lang.source_module import SourceModule
from reflow.lang.syntax import Assign, Make
from reflow.lang.tree_codec import decode, encode

EVERYTHING = r"""
keyspace "ks"
param n int
param (
	// Doc of f.
	f float = 0.1
	s = "x\xff"
)
strings := make("$/strings")
lib := make("./lib.rf", k := n)
type T {a int, b [string:(int, bool)]}
type S #A | #B(T)
val (p, [q, ...rest]) = (1, [2, 3])
val {a: u, b} = {a: 1, b: 2.5}
func g(x int, t T) S = { y := x + lib.V * 2; if y > 1 && !(y == 3) { #A } else { #B({a: t.a, b: t.b}) } }
func h(v S) = switch v { case #A: 1 case #B({a}): a }
val twice = func(k func(int) int) => func(i int) => k(k(i))
val fs = [x + y | (x, y) <- zip([1], rest), if x != -y]
val m = ["k": 1, ...["l": 2]]
val ref = file("s3://b/k")
@requires(mem := GiB, wide := true)
val e = exec(image := "i:" + s, cpu := 2) (out file, d dir) {"
	run {{n}} {{strings.FromFloat(f, 3)}} {{ref}} > {{out}}; mk {{d}}
"}
val later = delay(1 << 70) ~> trace(m["k"])
val made = (g(n, {a: n, b: ["z": (1, true)]}), h(#A), twice(func(i int) => i + p)(3))
val Main = (made, fs, m, e, int(b), q, u, later)
"""


UNUSED = "lib.rf:2:7: warning: unused declared and not used"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the program above."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.rf").write_text(EVERYTHING)
    (tmp_path / "lib.rf").write_text("param k int\nunused := 1\nval V = k * 2\n")
    return tmp_path


@pytest.fixture
def store(here: Path) -> ModuleStore:
    return ModuleStore(str(here / "store"))


def opened(store: ModuleStore | None, path: str = "m.rf", **more: Any) -> SourceModule:
    module = Session(store=store, **more).open(path)
    assert isinstance(module, SourceModule)
    return module


def outcome(store: ModuleStore | None) -> tuple[Any, ...]:
    """What a program comes to: value or digest, type, images, traces, warnings and remarks."""
    told: list[str] = []
    session = Session(store=store, warn=told.append, note=told.append, trace=told.append)
    program = load("m.rf", ["-n=4"], session, make_absolute=False)
    main = program.main
    assert isinstance(main, Flow)
    return digest(main), str(program.main_type), program.images, program.params, told


def test_a_stored_module_comes_to_the_same(store: ModuleStore) -> None:
    plain = outcome(None)
    assert outcome(store) == plain
    assert outcome(store) == plain
    assert len(os.listdir(store.directory)) == 2
    assert any("unused declared and not used" in line for line in plain[-1])


def test_writing_what_was_read_gives_the_same_bytes(here: Path) -> None:
    module = opened(None)
    makes = [
        each.expr for each in module.tree.decls if isinstance(each, Assign) and isinstance(each.expr, Make)
    ]
    found = [each.module for each in makes]
    data = encode(module.tree, module.info, found)
    tree, info = decode(data, Source("m.rf", EVERYTHING), found)
    assert encode(tree, info, found) == data
    assert str(info.type) == str(module.type)
    assert [str(each.type) for each in info.params] == ["int", "float", "string"]
    assert info.params[0].decl is tree.params[0]


def test_a_function_has_the_same_digest_before_its_body_was_read(here: Path, store: ModuleStore) -> None:
    (here / "m.rf").write_text("val k = 2\nfunc F(x int) = x * k\nfunc G(y int) = F(y)\nval Main = (F, G)\n")
    digests = []
    for kept in (None, store, store):
        values = opened(kept).make(Session(), {})
        digests.append([own_digest(each) for each in values["Main"]])
    assert digests[0] == digests[1] == digests[2]


def test_a_module_seen_before_is_not_parsed(store: ModuleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = reflow.lang.parse.parse_module

    def counting(source: Source, note: Any) -> Any:
        parsed.append(source.name)
        return parse(source, note)

    monkeypatch.setattr(reflow.lang.parse, "parse_module", counting)
    opened(store)
    opened(store)
    assert parsed == ["m.rf", "lib.rf"]


def test_warnings_come_again_in_order(store: ModuleStore) -> None:
    told: list[list[str]] = []
    for kept in (None, store, store):
        lines: list[str] = []
        opened(kept, warn=lines.append)
        told.append(lines)
    assert told[0] == told[1] == told[2]
    assert told[0][0] == UNUSED


def test_a_change_in_a_module_that_is_made_is_noticed(here: Path, store: ModuleStore) -> None:
    opened(store)
    (here / "lib.rf").write_text('param k int\nval V = "text"\n')
    told: list[str] = []
    with pytest.raises(SourceError, match='cannot apply binary operator "\\*" to type string and int'):
        opened(store, warn=told.append)
    assert told == []


def test_an_error_in_a_module_that_is_made_is_told_once(here: Path, store: ModuleStore) -> None:
    opened(store)
    (here / "lib.rf").write_text("param k int\nunused := 1\nval V = nope\n")
    for kept in (store, None):
        told: list[str] = []
        with pytest.raises(SourceError, match=r"failed to open module \./lib\.rf: lib\.rf:3:13: identifier"):
            opened(kept, warn=told.append)
        assert [line for line in told if "unused" in line] == [UNUSED]


def only_record(store: ModuleStore) -> Path:
    (name,) = os.listdir(store.directory)
    return Path(store.directory, name)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:100] + b"\xff" + data[101:],
        lambda data: b"other" + data,
        lambda data: sealed(b"no marshal"),
        lambda data: sealed(marshal.dumps(([("open", "$/nosuch", "", "")], b""))),
        lambda data: sealed(marshal.dumps(([], b""))),
        lambda data: sealed(marshal.dumps(([("unknown",)], marshal.dumps(([], [], [99], ([], [1, 0], {})))))),
    ],
)
def test_a_damaged_record_is_as_good_as_none(here: Path, store: ModuleStore, damage: Any) -> None:
    (here / "m.rf").write_text("unused := 1\nval Main = 1\n")
    opened(store)
    path = only_record(store)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    told: list[str] = []
    assert opened(store, warn=told.append).make(Session(), {})["Main"] == 1
    assert told == ["m.rf:1:7: warning: unused declared and not used"]
    assert only_record(store).read_bytes() == whole


def sealed(payload: bytes) -> bytes:
    return b"reflow module\n" + sha256(payload).digest() + payload


def test_a_directory_that_others_may_write_is_not_used(here: Path, store: ModuleStore) -> None:
    os.mkdir(store.directory)
    os.chmod(store.directory, 0o777)
    opened(store)
    assert os.listdir(store.directory) == []
    elsewhere = here / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    os.rmdir(store.directory)
    os.symlink(elsewhere, store.directory)
    opened(store)
    assert os.listdir(elsewhere) == []


def test_a_store_that_cannot_be_written_is_no_error(here: Path) -> None:
    (here / "file").touch()
    assert opened(ModuleStore(str(here / "file" / "store"))).type is not None


def test_a_key_depends_on_text_name_directory_and_program(monkeypatch: pytest.MonkeyPatch) -> None:
    differing = [("a", b"x", "."), ("b", b"x", "."), ("a", b"y", "."), ("a", b"x", "d")]
    keys = {module_key(*each) for each in differing}
    assert len(keys) == 4
    monkeypatch.setattr(module_store, "_program_version", lambda: b"another")
    assert module_key("a", b"x", ".") not in keys


def test_old_records_make_room(here: Path, store: ModuleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_store, "_MAX_RECORDS", 4)
    for number in range(6):
        (here / "m.rf").write_text(f"val Main = {number}\n")
        opened(store)
    assert len(os.listdir(store.directory)) <= 4


def test_large_records_make_room_and_those_in_use_stay(
    here: Path, store: ModuleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "m.rf").write_text("val Used = 1\n")
    opened(store)
    used = only_record(store)
    monkeypatch.setattr(module_store, "_MAX_BYTES", 10 * used.stat().st_size)
    for number in range(30):
        (here / "m.rf").write_text(f"val Main = {number}\n")
        opened(store)
        (here / "m.rf").write_text("val Used = 1\n")
        opened(store)
    assert used.exists()
    assert len(os.listdir(store.directory)) <= 11


@pytest.mark.parametrize("kind", ["pipe", "directory", "too large"])
def test_what_stands_in_the_place_of_a_record_is_not_read(
    here: Path, store: ModuleStore, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (here / "m.rf").write_text("val Main = 1\n")
    opened(store)
    path = only_record(store)
    if kind == "too large":
        monkeypatch.setattr(module_store, "_MAX_BYTES", path.stat().st_size - 1)
    else:
        path.unlink()
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
    assert opened(store).make(Session(), {})["Main"] == 1


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"REFLOW_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/cache/modules"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/reflow/modules"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/u/.reflow/cache/modules"),
        ({}, "/home/u/.reflow/cache/modules"),
    ],
)
def test_where_the_store_is(variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REFLOW_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/u")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_store().directory == place


def test_modules_in_bundles_are_stored_too(here: Path, store: ModuleStore) -> None:
    from reflow.lang.bundle import write_bundle

    write_bundle(Session(), "b.rfx", "m.rf", ["-n=4"])
    results = []
    for kept in (None, store, store):
        program = load("b.rfx", [], Session(store=kept), make_absolute=False)
        assert isinstance(program.main, Flow)
        results.append(digest(program.main))
    assert results[0] == results[1] == results[2]
    assert len(os.listdir(store.directory)) == 2
