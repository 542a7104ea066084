from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reflow.runtime.config import ConfigError
from reflow.runtime.setup_file import change_file, edit, make_directory

COMMENTED = """\
# mine
user: user,user=ann   # me

# about instances
instances:
  awssession: {credentials: secret}
  # inner
  tls: "x"

# last
transferlimit: 20
cache: "off\""""


def test_comments_and_other_keys_stay_as_they_were_written() -> None:
    changes = {"instances": None, "user": "user,user=bob", "cache": "readwrite", "repository": "s3,bucket=b"}
    assert edit(COMMENTED, changes) == (
        "# mine\nuser: user,user=bob   # me\n\n# about instances\n\n# last\ntransferlimit: 20\n"
        "cache: readwrite\nrepository: s3,bucket=b\n"
    )


def test_nothing_to_change_changes_nothing() -> None:
    assert edit(COMMENTED, {"transferlimit": 20, "absent": None}) == COMMENTED


@pytest.mark.parametrize(
    ("text", "changes", "wanted"),
    [
        ("", {"c": "x"}, "c: x\n"),
        ("# only\n", {"c": "off"}, '# only\nc: "off"\n'),
        ("{a: b, d: [1, 2]}", {"c": "x"}, "a: b\nc: x\nd:\n- 1\n- 2\n"),
        ("a: &x {q: 1}\nb: *x\n", {"a": None}, "b:\n  q: 1\n"),
        ("---\na: b\n...\n", {"c": "x"}, "a: b\nc: x\n"),
        ("a: |\n  # no comment\n  text\nb: 1\n", {"a": "x"}, "a: x\nb: 1\n"),
        ("versions: {user: 0}\n", {"versions": {"user": 0, "s3": 0}}, "versions:\n  s3: 0\n  user: 0\n"),
        ("a:\nb: 1\n", {"a": "x"}, "a: x\nb: 1\n"),
        ("a: 'x'\n", {"a": "y"}, "a: y\n"),
    ],
)
def test_whatever_the_form_the_meaning_is_right(text: str, changes: dict[str, object], wanted: str) -> None:
    assert edit(text, changes) == wanted


KEYS = st.sampled_from(["a", "b", "c", "d e", "on"])
VALUES = st.one_of(
    st.text("ab:#'\" ,\n-", max_size=8),
    st.integers(0, 9),
    st.dictionaries(KEYS, st.integers(), max_size=2),
    st.lists(st.text("a#: ", max_size=3), max_size=2),
)


@given(
    document=st.dictionaries(KEYS, VALUES, max_size=4),
    changes=st.dictionaries(KEYS, st.one_of(st.none(), VALUES), max_size=3),
    flow=st.sampled_from([None, True, False]),
    width=st.sampled_from([10, 80]),
)
def test_an_edit_means_what_it_says(
    document: dict[str, object], changes: dict[str, object], flow: bool | None, width: int
) -> None:
    text = yaml.safe_dump(document, default_flow_style=flow, width=width, sort_keys=False)
    wanted = {**{key: value for key, value in document.items() if key not in changes}}
    wanted |= {key: value for key, value in changes.items() if value is not None}
    edited = edit(text, changes)
    assert (yaml.safe_load(edited) or {}) == wanted
    assert edit(edited, changes) == edited


def test_a_text_that_is_no_mapping_is_an_error() -> None:
    with pytest.raises(ConfigError, match="want a mapping"):
        edit("- a\n", {"b": "x"})


def test_the_file_is_for_its_owner_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.yaml"
    make_directory(str(path))
    assert change_file(str(path), lambda document: {"a": "x"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    inode = path.stat().st_ino
    assert not change_file(str(path), lambda document: {"a": "x"})
    assert path.stat().st_ino == inode
    assert change_file(str(path), lambda document: {"b": document["a"]})
    assert path.read_text() == "a: x\nb: x\n"
    assert os.listdir(path.parent) == ["config.yaml"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "dot.yaml").write_text("a: x\n")
    (tmp_path / "config.yaml").symlink_to("real/dot.yaml")
    change_file(str(tmp_path / "config.yaml"), lambda document: {"b": "y"})
    assert (tmp_path / "config.yaml").is_symlink()
    assert (tmp_path / "real" / "dot.yaml").read_text() == "a: x\nb: y\n"


def test_a_failed_change_leaves_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: x\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        change_file(str(path), lambda document: {"b": "y"})
    assert path.read_text() == "a: x\n"
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "config.yaml")
    names = [f"key{number}" for number in range(20)]
    threads = [
        threading.Thread(target=change_file, args=(path, lambda document, name=name: {name: "x"}))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert yaml.safe_load(Path(path).read_text()) == dict.fromkeys(names, "x")


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for link in (pipe, tmp_path / "link"):
        if link != pipe:
            link.symlink_to(pipe)
        with pytest.raises(ConfigError, match="cannot be changed: it is not a file; name one with -config"):
            make_directory(str(link))
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_without_a_file_there_is_nothing_to_write() -> None:
    with pytest.raises(ConfigError, match="no configuration file to write"):
        make_directory("")
