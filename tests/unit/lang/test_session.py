"""Sessions: opening modules, and what they remember."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reflow.core.errors import ReflowError
from reflow.lang.diagnostic import SourceError
from reflow.lang.session import MAX_SOURCE_BYTES, Session, clean_path, directory_of, extension_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_module_is_opened_once_by_its_resolved_path(here: Path) -> None:
    write(here, {"d/m.rf": "val A = 1\n"})
    session = Session()
    module = session.open("d/m.rf")
    assert session.open("./m.rf", "d") is module
    assert session.open("./d/m.rf") is module
    assert module.path == "d/m.rf"
    assert session.sources == {"d/m.rf": b"val A = 1\n"}


def test_only_a_dot_slash_is_relative_to_the_importing_module(here: Path) -> None:
    write(
        here,
        {
            "main.rf": 'val Main = make("./a/m.rf").V\n',
            "a/m.rf": 'val V = make("x.rf").N + make("./x.rf").N + make("../x.rf").N\n',
            "x.rf": 'val N = "top"\n',
            "a/x.rf": 'val N = "in a"\n',
        },
    )
    with pytest.raises(SourceError, match=r"failed to open module \.\./x\.rf: open \.\./x\.rf: no such file"):
        Session().open("main.rf")
    write(here.parent, {"x.rf": 'val N = "above"\n'})
    values = Session().open("main.rf").make(Session(), {})
    assert values["Main"] == b"topin aabove"


def test_system_modules_are_shared_and_have_no_source() -> None:
    session = Session()
    assert session.open("$/strings") is Session().open("$/strings")
    assert session.sources == {}
    with pytest.raises(ReflowError, match=r"^no system module named math$"):
        session.open("$/math")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.rf", "open gone.rf: no such file or directory"),
        ("gone.csv", "open gone.csv: no such file or directory"),
        ("dir.rf", "read dir.rf: is a directory"),
        ("data.csv", "unknown module extension .csv"),
        ("plain", "unknown module extension "),
        (
            "old.reflow",
            "operation not supported: old.reflow is written in the older language; only .rf and .rfx",
        ),
        ("a\0b.rf", "open 'a\\x00b.rf': invalid argument"),
    ],
)
def test_what_cannot_be_opened_is_named(here: Path, name: str, message: str) -> None:
    write(here, {"dir.rf/x": "", "data.csv": "", "plain": "", "old.reflow": ""})
    with pytest.raises(ReflowError) as caught:
        Session().open(name)
    assert str(caught.value).startswith(message)


def test_a_source_that_is_too_large_is_refused_by_its_size(here: Path) -> None:
    path = here / "big.rf"
    with open(path, "wb") as stream:
        stream.truncate(MAX_SOURCE_BYTES + 1)
    with pytest.raises(ReflowError, match=r"module big\.rf has 4\.0MiB, the limit is 4\.0MiB"):
        Session().open("big.rf")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_refused_without_waiting_for_it(here: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo("odd.rf")
    else:
        os.symlink("/dev/zero", "odd.rf")
    with pytest.raises(ReflowError, match=r"^module odd\.rf is no regular file$"):
        Session().open("odd.rf")


def test_modules_with_errors_that_make_each_other_twice_are_not_checked_for_ever(here: Path) -> None:
    Path("m0.rf").write_text("val X = absent\n")
    for number in range(1, 40):
        below = f'make("./m{number - 1}.rf")'
        Path(f"m{number}.rf").write_text(f"val a = {below}\nval b = {below}\nval X = (a.X, b.X)\n")
    with pytest.raises(SourceError, match="failed to open module") as caught:
        Session().open("m39.rf")
    assert len(caught.value.render()) < 1_000_000


def test_modules_that_make_each_other_are_an_error(here: Path) -> None:
    write(here, {"a.rf": 'val V = make("./b.rf").V\n', "b.rf": 'val V = make("./a.rf").V\n'})
    session = Session()
    with pytest.raises(SourceError, match=r"modules make each other in a circle: a\.rf -> b\.rf -> a\.rf"):
        session.open("a.rf")
    write(here, {"b.rf": "val V = 1\n"})
    assert session.open("a.rf").make(session, {})["V"] == 1


def test_warnings_are_told_and_counted_only_where_someone_listens(here: Path) -> None:
    write(here, {"m.rf": "val unused = 1\nval A = 2\n"})
    told: list[str] = []
    session = Session(warn=told.append)
    session.open("m.rf")
    assert told == ["m.rf:1:11: warning: unused declared and not used"]
    assert session.warnings == 1
    silent = Session()
    silent.open("m.rf")
    assert silent.warnings == 0


def test_remarks_of_the_scanner_are_notes(here: Path) -> None:
    write(here, {"m.rf": "val A = 08\n"})
    told: list[str] = []
    assert Session(note=told.append).open("m.rf").make(Session(), {})["A"] == 8
    assert told == ["m.rf:1:9: illegal octal number"]


def test_traced_values_are_told(here: Path) -> None:
    write(here, {"m.rf": "val A = trace(1 + 1)\n"})
    told: list[str] = []
    Session().open("m.rf").make(Session(trace=told.append), {})
    assert told == ["m.rf:1:14(m.A): 2"]


def test_images_and_local_files_are_remembered_once(here: Path) -> None:
    write(here, {"in.txt": "x"})
    session = Session()
    for image in ("b", "a", "b"):
        session.see_image(image)
    assert session.images() == ["a", "b"]
    assert session.local_file("in.txt") is session.local_file("in.txt")
    assert [each.path for each in session.local_files] == ["in.txt"]
    with pytest.raises(FileNotFoundError):
        session.local_file("gone.txt")


@pytest.mark.parametrize(
    ("path", "cleaned", "directory", "extension"),
    [
        ("./a/../m.rf", "m.rf", ".", ".rf"),
        ("d//m.tar.gz", "d/m.tar.gz", "d", ".gz"),
        ("/m", "/m", "/", ""),
        ("//m.rf", "/m.rf", "/", ".rf"),
        ("a.b/m", "a.b/m", "a.b", ""),
        ("../m.rf", "../m.rf", "..", ".rf"),
    ],
)
def test_paths_are_taken_apart_without_looking(
    path: str, cleaned: str, directory: str, extension: str
) -> None:
    assert (clean_path(path), directory_of(path), extension_of(path)) == (cleaned, directory, extension)
    assert not os.path.exists(cleaned) or cleaned.startswith("/")
