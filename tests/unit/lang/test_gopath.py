"""Paths, globs and URLs, against answers of Go's ``path`` and ``net/url``."""

from __future__ import annotations

from typing import Any

import pytest

from reflow.lang import gopath
from reflow.lang.diagnostic import EvalError
from reflow.lang.gourl import parse_url
from tests.gotables import raw, table


@pytest.mark.parametrize("row", table("path"), ids=lambda row: row["path"] or "empty")
def test_a_path_is_taken_apart_as_go_does(row: dict[str, Any]) -> None:
    path = raw(row["path"])
    found = gopath.base(path), gopath.extension(path), gopath.split_dir(path)
    assert found == (raw(row["base"]), raw(row["extension"]), raw(row["directory"]))


@pytest.mark.parametrize("row", table("glob"), ids=lambda row: f"{row['pattern']} {row['name']}")
def test_a_glob_matches_what_it_matches_in_go(row: dict[str, Any]) -> None:
    if row["match"] is None:
        with pytest.raises(EvalError, match=r"^syntax error in pattern$"):
            gopath.Glob(raw(row["pattern"]))
    else:
        assert gopath.Glob(raw(row["pattern"])).is_match(raw(row["name"])) == row["match"]


@pytest.mark.parametrize("row", table("url"), ids=lambda row: row["url"] or "empty")
def test_a_url_is_read_and_written_as_go_does(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(EvalError) as caught:
            parse_url(raw(row["url"]))
        assert str(caught.value) == row["error"]
    else:
        assert parse_url(raw(row["url"])) == (row["scheme"], row["text"])
