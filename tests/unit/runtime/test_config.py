from __future__ import annotations

from pathlib import Path

import pytest

from reflow.cli.config import config_text
from reflow.runtime.config import Config, ConfigError, load_config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USER", "tester")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def load(home: Path, text: str, **overrides: str) -> Config:
    (home / "config.yaml").write_text(text)
    return load_config(None, overrides)


def test_without_a_file_everything_is_local(home: Path) -> None:
    config = load_config()
    assert config.cache == "readwrite"
    assert config.repository_dir == str(home / "repository")
    assert config.assoc_file == str(home / "assoc.db")
    assert config.taskdb_file == str(home / "taskdb.db")
    assert config.local_dir == str(home / "local")
    assert (config.user, config.labels) == ("tester", {"user=tester"})


def test_flags_win_over_the_file_and_the_file_over_built_in_values(home: Path) -> None:
    config = load(home, "cache: read\nuser: user,user=bob\n", cache="write", user="")
    assert (config.cache, config.user, config.values["docker"]) == ("write", "bob", "docker,memlimit=soft")


def test_an_override_hides_a_bad_value_of_the_file(home: Path) -> None:
    assert load(home, "cache: bogus\n", cache="read").cache == "read"


def test_paths_of_local_stores_can_be_set(home: Path) -> None:
    config = load(
        home,
        "repository: file,dir=/r\nassoc: sqlite,file=/a\n"
        "taskdb: sqlite,file=/t\ncluster: localcluster,dir=/l\n",
    )
    assert (config.repository_dir, config.assoc_file, config.taskdb_file, config.local_dir) == (
        "/r",
        "/a",
        "/t",
        "/l",
    )


def test_what_has_no_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: has more than 4 MiB, so it is no configuration file"):
        load_config("/dev/zero")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("cache: bogus\n", "cache: no provider named bogus; cache can be: off, read, write, readwrite"),
        (
            "cache: s3,bucket=x\n",
            "cache: provider s3 is for repository; cache can be: off, read, write, readwrite",
        ),
        (
            "repository: s3,nosuch=x\n",
            "repository: provider s3 flag nosuch: no such flag -nosuch (it has: bucket)",
        ),
        ("tls: tls,file=/x,bad\n", "tls: provider tls flag bad: no such flag -bad (it has: file)"),
        ("user: runid\n", "user: provider runid is for runid; user can be: user"),
        ("docker: docker,memlimit=medium\n", "invalid memlimit: medium: memlimit is soft or hard only"),
    ],
)
def test_values_that_cannot_be_right_are_named(home: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(home, text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cache: [\n", "line 2, column 1: "),
        ("just text\n", "got text, want a mapping"),
        ("- a\n", "got a list, want a mapping"),
        ("cache: 3\n", "cache: got a number (3), want a string"),
        ("tracer: true\n", "tracer: got a boolean (True), want a string"),
        ("1: x\n", "key 1 is a number, want a string"),
        ("cache: \xff\n", "is not UTF-8 text"),
    ],
)
def test_files_that_cannot_be_read_are_named(home: Path, text: str, reason: str) -> None:
    (home / "config.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert str(caught.value).startswith(f"config {home}/config.yaml: ")
    assert reason in str(caught.value)


def test_a_named_file_must_exist_and_the_empty_name_is_no_file(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml: no such file or directory"):
        load_config(str(home / "nope.yaml"))
    (home / "config.yaml").write_text("cache: read\n")
    assert load_config("").cache == "readwrite"


def test_a_bare_off_is_the_mode_and_an_empty_value_is_none(home: Path) -> None:
    assert load(home, "cache: off\n").cache == "off"
    assert load(home, "taskdb:\n").provider("taskdb") == ""


def test_labels_are_pairs(home: Path) -> None:
    assert load(home, "labels: kv,labels=a=b;c=d\n").labels == {"a=b", "c=d", "user=tester"}
    with pytest.raises(ConfigError, match="malformed label: a"):
        _ = load(home, "labels: kv,labels=a\n").labels


def test_the_configuration_is_printed_sorted_with_ambiguous_words_quoted(home: Path) -> None:
    text = config_text(load(home, 'cache: "off"\nfoo:\n  a: 1\nreflow: reflowversion,version=1\n').values)
    lines = text.splitlines()
    assert 'cache: "off"' in lines
    assert lines[lines.index("foo:") + 1] == "  a: 1"
    assert "versions: {}" in lines
    assert [line for line in lines if not line.startswith(" ")] == sorted(
        line for line in lines if not line.startswith(" ")
    )
    assert not any(line.startswith("reflow:") for line in lines)
