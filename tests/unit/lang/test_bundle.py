"""Bundles: the archive, and programs in it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.lang.bundle import archive, make_bundle, read_archive, write_bundle
from reflow.lang.diagnostic import SourceError
from reflow.lang.doc import doc_text
from reflow.lang.flags import UsageError
from reflow.lang.program import load
from reflow.lang.session import Session

MAIN = 'param n int\nparam s = "d"\nlib := make("./lib/l.rf", k := n)\nval Main = (lib.V, s)\n'
LIB = 'param k int\nval V = k * make("lib/in.rf").Two\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a program of three modules."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "main.rf").write_text(MAIN)
    (tmp_path / "lib" / "l.rf").write_text(LIB)
    (tmp_path / "lib" / "in.rf").write_text("val Two = 2\n")
    return tmp_path


def text_of(path: str, *argv: str) -> str:
    program = load(path, argv, Session(), make_absolute=True)
    return program.text(program.main)


def test_the_manifest_is_as_the_original_writes_it() -> None:
    sources = {"m.rf": b"a", "d/x.rf": b"b", "d/y.rf": b"b"}
    data = archive(make_bundle(sources, "m.rf", ["-s=<&>\u2028é"]))
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        a, b = Digest.of(b"a"), Digest.of(b"b")
        assert opened.namelist() == [*sorted([str(a), str(b)]), "manifest"]
        assert opened.read("manifest").decode() == (
            f'{{"Entrypoint":"{a}","EntrypointPath":".","Args":["-s=\\u003c\\u0026\\u003e\\u2028é"],'
            f'"Files":{{"d/x.rf":"{b}","d/y.rf":"{b}","m.rf":"{a}"}}}}\n'
        )
    assert archive(make_bundle(sources, "m.rf", ["-s=<&>\u2028é"])) == data


@pytest.mark.parametrize(
    ("entry", "directory"), [("m.rf", "."), ("d/m.rf", "d"), ("/m.rf", "/"), ("/a/m.rf", "/a")]
)
def test_the_entry_directory_is_that_of_the_entry(entry: str, directory: str) -> None:
    bundle = read_archive(archive(make_bundle({entry: b"x"}, entry, None)))
    assert (bundle.entry_directory, bundle.args, bundle.entry()) == (directory, None, b"x")


def test_a_bundle_runs_without_its_sources(here: Path) -> None:
    write_bundle(Session(), None, "./main.rf", ["-n=3"])
    for path in ("main.rf", "lib/l.rf", "lib/in.rf"):
        (here / path).unlink()
    assert text_of("main.rfx") == '(6, "d")'
    assert text_of("main.rfx", "-n=5", "-s=q") == '(10, "q")'
    assert "val n int = 3\n" in doc_text(Session().open("main.rfx"))
    assert [path.name for path in here.iterdir() if "part" in path.name] == []


def test_arguments_that_were_not_given_stay_mandatory(here: Path) -> None:
    write_bundle(Session(), "out.rfx", "main.rf", [])
    with pytest.raises(UsageError, match="missing mandatory flag -n"):
        text_of("out.rfx")


def test_a_bundle_can_be_made_and_bundled(here: Path) -> None:
    write_bundle(Session(), "p.rfx", "main.rf", ["-n=3"])
    (here / "outer.rf").write_text(
        'val Main = (make("./p.rfx").Main, make("./p.rfx", s := "o", n := 1).Main)\n'
    )
    write_bundle(Session(), None, "outer.rf", [])
    (here / "p.rfx").unlink()
    assert text_of("outer.rfx") == '((6, "d"), (2, "o"))'


def test_local_files_of_a_bundle_are_the_callers(here: Path) -> None:
    (here / "in.txt").write_text("x")
    (here / "f.rf").write_text('param f file\nval g = file("in.txt")\nval Main = 1\n')
    write_bundle(Session(), None, "f.rf", ["-f=in.txt"])
    session = Session()
    load("f.rfx", [], session, make_absolute=False)
    assert [each.path for each in session.local_files] == ["in.txt"]


def test_only_sources_without_errors_are_bundled(here: Path) -> None:
    with pytest.raises(ReflowError, match=r"extension \.rfx not supported for bundling"):
        write_bundle(Session(), None, "a.rfx", [])
    (here / "bad.rf").write_text('val A = 1 + "x"\n')
    with pytest.raises(SourceError, match=r"bad\.rf:1:10: cannot apply"):
        write_bundle(Session(), None, "bad.rf", [])
    with pytest.raises(ReflowError, match=r"open nodir/x\.rfx: no such file or directory"):
        write_bundle(Session(), "nodir/x.rfx", "main.rf", ["-n=1"])
    assert not (here / "bad.rfx").exists()


def zipped(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return stream.getvalue()


A = Digest.of(b"a")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no archive", "zip: not a valid zip file"),
        (b"", "zip: not a valid zip file"),
        (zipped({str(A): b"a"})[:-30], "zip: not a valid zip file"),
        (zipped({str(A): b"a"}), "bundle is missing manifest"),
        (zipped({"manifest": b"{"}), "invalid bundle: the manifest is no JSON"),
        (zipped({"manifest": b"[]"}), "invalid bundle: entrypoint module is missing"),
        (zipped({"manifest": b'{"Entrypoint":"x"}'}), "invalid bundle: entrypoint module is missing"),
        (
            zipped({"manifest": json.dumps({"Entrypoint": str(A), "Files": {"m": 1}}).encode()}),
            "invalid bundle: the manifest has values of the wrong kind",
        ),
        (
            zipped({"manifest": json.dumps({"Entrypoint": str(A), "Args": "x"}).encode()}),
            "invalid bundle: the manifest has values of the wrong kind",
        ),
    ],
)
def test_what_is_no_bundle_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ReflowError) as caught:
        read_archive(data)
    assert str(caught.value).startswith(message)


def test_missing_sources_are_named() -> None:
    manifest = {"Entrypoint": str(A), "Files": {"m.rf": str(A)}}
    bundle = read_archive(zipped({"manifest": json.dumps(manifest).encode(), "odd name": b""}))
    with pytest.raises(ReflowError, match="invalid bundle: entrypoint module is missing"):
        bundle.entry()
    with pytest.raises(ReflowError, match=rf"invalid bundle: file m\.rf \({A}\) is missing"):
        bundle.read("m.rf")
    with pytest.raises(ReflowError, match="file does not exist"):
        bundle.read("other.rf")


def test_a_bundle_that_makes_itself_is_an_error(here: Path) -> None:
    source = b'val V = make("b.rfx").V\n'
    inner = archive(make_bundle({"m.rf": source}, "m.rf", None))
    (here / "b.rfx").write_bytes(inner)
    with pytest.raises(SourceError, match=r"failed to open module b\.rfx: file does not exist"):
        Session().open("b.rfx")
