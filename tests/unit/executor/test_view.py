"""Links as an exec saw them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reflow.executor.view import Layers, View, ViewError


@pytest.fixture
def view(tmp_path: Path) -> View:
    for name in ("return", "tmp", "arg/9", "upper"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    roots = {
        "/return": Layers([str(tmp_path / "return")]),
        "/tmp": Layers([str(tmp_path / "tmp")]),
        "/arg": Layers([str(tmp_path / "upper"), str(tmp_path / "arg")]),
    }
    return View(roots, {"/arg/9/9": str(tmp_path / "mine")}, frozenset({str(tmp_path / "mine")}))


def host(view: View, tmp_path: Path, path: str) -> str:
    return os.path.relpath(view.resolve(path).host, tmp_path)


def test_links_between_roots_are_followed(view: View, tmp_path: Path) -> None:
    (tmp_path / "tmp/t").write_text("t")
    (tmp_path / "return/a").symlink_to("/tmp/t")
    (tmp_path / "return/b").symlink_to("../return/./a")
    assert host(view, tmp_path, "/return/b") == "tmp/t"


def test_links_of_directories_are_followed_on_the_way(view: View, tmp_path: Path) -> None:
    (tmp_path / "tmp/d").mkdir()
    (tmp_path / "tmp/d/x").write_text("x")
    (tmp_path / "return/l").symlink_to("/tmp/d")
    assert host(view, tmp_path, "/return/l/x") == "tmp/d/x"
    assert host(view, tmp_path, "/return/l/../d/x") == "tmp/d/x"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/etc/passwd", "/etc is outside of the exec's arg, return and tmp"),
        ("../../etc", "/etc is outside"),
        ("/", "/ is outside"),
        ("nowhere", "/return/nowhere does not exist"),
        ("l", "circle"),
        ("/arg/1/1", "/arg/1 does not exist"),
        ("/returned", "/returned is outside"),
    ],
)
def test_what_leads_nowhere_is_refused(view: View, tmp_path: Path, target: str, words: str) -> None:
    (tmp_path / "return/l").symlink_to(target)
    with pytest.raises(ViewError, match=words):
        view.resolve("/return/l")


def test_an_upper_layer_hides_a_lower_one(view: View, tmp_path: Path) -> None:
    for layer in ("arg", "upper"):
        (tmp_path / layer / "0").mkdir()
    (tmp_path / "arg/0/0").write_text("old")
    (tmp_path / "arg/0/1").write_text("old")
    (tmp_path / "upper/0/0").write_text("new")
    assert host(view, tmp_path, "/arg/0/0") == "upper/0/0"
    assert host(view, tmp_path, "/arg/0/1") == "arg/0/1"
    assert sorted(view.children(view.resolve("/arg/0"))) == ["0", "1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts are devices, which root makes")
def test_whiteouts_hide(view: View, tmp_path: Path) -> None:
    for layer in ("arg", "upper"):
        (tmp_path / layer / "0").mkdir()
    (tmp_path / "arg/0/0").write_text("old")
    (tmp_path / "arg/1").mkdir()
    (tmp_path / "arg/1/0").write_text("old")
    os.mknod(tmp_path / "upper/0/0", 0o020000, 0)
    os.mknod(tmp_path / "upper/1", 0o020000, 0)
    assert view.children(view.resolve("/arg/0")) == []
    for path in ("/arg/0/0", "/arg/1", "/arg/1/0"):
        with pytest.raises(ViewError, match="does not exist"):
            view.resolve(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets trusted attributes")
def test_opaque_directories_hide_what_is_below_them(view: View, tmp_path: Path) -> None:
    for layer in ("arg", "upper"):
        (tmp_path / layer / "0").mkdir()
    (tmp_path / "arg/0/x").write_text("old")
    os.setxattr(tmp_path / "upper/0", "trusted.overlay.opaque", b"y")
    with pytest.raises(ViewError):
        view.resolve("/arg/0/x")
    assert view.children(view.resolve("/arg/0")) == []


def test_users_files_are_foreign(view: View, tmp_path: Path) -> None:
    (tmp_path / "return/a").symlink_to("/arg/9/9")
    (tmp_path / "return/b").symlink_to(tmp_path / "mine")
    for path in ("/return/a", "/return/b"):
        place = view.resolve(path)
        assert (place.host, place.is_foreign) == (str(tmp_path / "mine"), True)
