from __future__ import annotations

import re
from pathlib import Path

import pytest

from reflow.runtime.log import DEBUG, ERROR, INFO, Log, RunLog, parse_level


def test_levels_are_words_in_any_case() -> None:
    assert [parse_level(word) for word in ("off", "Error", "INFO", "debug")] == [0, ERROR, INFO, DEBUG]
    with pytest.raises(ValueError, match="unknown log level 'bogus'"):
        parse_level("bogus")


@pytest.mark.parametrize(
    ("level", "shown"),
    [("off", ""), ("error", "reflow: e\n"), ("info", "reflow: e\nreflow: i\n")],
)
def test_the_console_gets_what_its_level_allows(level: str, shown: str) -> None:
    lines: list[str] = []
    log = Log(parse_level(level), lines.append)
    log.error("e")
    log.info("i")
    log.debug("d")
    assert "".join(lines) == shown


def test_at_debug_the_console_has_dates_and_no_prefix() -> None:
    lines: list[str] = []
    Log(DEBUG, lines.append).debug("d")
    assert re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d d\n", lines[0])


def test_the_log_of_a_run_has_every_level(tmp_path: Path) -> None:
    path = tmp_path / "x.runlog"
    log = Log(0, lambda text: None)
    log.run_log = RunLog(str(path))
    log.error("e\n\tmore")
    log.info("i\udcff")
    log.debug("d")
    log.run_log.close()
    lines = path.read_bytes().split(b"\n")
    assert [line[20:] for line in lines] == [b"[ERROR] e", b"", b"[INFO] i\xff", b"[DEBUG] d", b""]
    assert lines[1] == b"\tmore"


def test_messages_of_interest_are_on_disk_at_once(tmp_path: Path) -> None:
    log = RunLog(str(tmp_path / "x.runlog"))
    log.write(INFO, "i")
    assert (tmp_path / "x.runlog").read_text().endswith("[INFO] i\n")
    log.close()


def test_a_full_disk_does_not_end_the_run() -> None:
    log = RunLog("/dev/full")
    log.write(INFO, "i")
    log.write(INFO, "again")
    log.close()
    assert log.trouble is not None
    assert log.trouble.strerror == "No space left on device"
