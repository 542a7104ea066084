from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.runtime.localcluster import _explain_directory, exec_dir, process_key

if TYPE_CHECKING:
    import pytest


def test_results_of_this_machines_tools_have_keys_of_their_own() -> None:
    key = Digest.of(b"key")
    system = os.uname()
    material = f"process{system.sysname}{system.machine}".encode() + key
    assert process_key(key) == sha256(material).digest()


def test_a_named_directory_is_used_by_one_hidden_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOW_HOME", str(tmp_path / "home"))
    assert exec_dir(str(tmp_path / "home/local")) == str(tmp_path / "home/local")
    assert exec_dir(str(tmp_path / "scratch")) == str(tmp_path / "scratch/.reflow")
    _explain_directory(str(tmp_path / "scratch/.reflow"))
    assert sorted(os.listdir(tmp_path / "scratch")) == [".reflow", "reflow-localdir.txt"]
