"""Images that are kept: their list, their removal, and who may use them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reflow.imagestore.store import ImageStore
from tests.imagetars import (
    serve,
)
from tests.registry import Registry
from tests.unit.imagestore.conftest import HUB, IMAGE, NewStore


async def test_kept_images_are_listed(registry: Registry, store: ImageStore, new_store: NewStore) -> None:
    assert store.kept() == []
    serve(registry, IMAGE, "library/thing")
    before = time.time()
    await store.ensure("thing")
    (kept,) = store.kept()
    assert (kept.id, kept.names, kept.size_bytes, kept.files) == (
        IMAGE.id,
        (f"{HUB}/library/thing:latest",),
        3,
        3,
    )
    assert before - 1 <= kept.unpacked_s <= kept.used_s <= time.time()
    assert kept.is_used
    await store.close()
    assert not new_store().kept()[0].is_used


def age(tmp_path: Path, seconds: float) -> None:
    """Let all images be unpacked and used that long ago."""
    then = time.time() - seconds
    for path in (tmp_path / "images").glob("sha256/*/about.json"):
        row = json.loads(path.read_text())
        path.write_text(json.dumps({**row, "unpacked_s": then}))
    for path in (tmp_path / "images/locks").iterdir():
        os.utime(path, (then, then))


async def test_what_nobody_used_lately_is_collected(
    registry: Registry, store: ImageStore, new_store: NewStore, tmp_path: Path
) -> None:
    serve(registry, IMAGE, "library/thing")
    await store.ensure("thing")
    age(tmp_path, 10 * 86400)
    other = new_store()
    assert other.collect(time.time()) == [], "it is in use"
    await store.close()
    assert other.collect(time.time() - 20 * 86400) == [], "it was used after that"
    assert [row.id for row in other.collect(time.time(), dry_run=True)] == [IMAGE.id]
    assert [row.id for row in other.collect(time.time())] == [IMAGE.id]
    assert (other.kept(), other.find(f"thing@{IMAGE.digest}")) == ([], None)
    assert sorted(os.listdir(tmp_path / "images/locks")) == []
    assert (await other.ensure("thing")).id == IMAGE.id


async def test_there_is_a_day_of_grace(registry: Registry, store: ImageStore, tmp_path: Path) -> None:
    serve(registry, IMAGE, "library/thing")
    await store.ensure("thing")
    await store.close()
    age(tmp_path, 86400 - 60)
    assert store.collect(time.time()) == []
    age(tmp_path, 86400 + 60)
    assert len(store.collect(time.time())) == 1


async def test_use_makes_an_image_young_again(
    registry: Registry, store: ImageStore, new_store: NewStore, tmp_path: Path
) -> None:
    serve(registry, IMAGE, "library/thing")
    await store.ensure("thing")
    await store.close()
    age(tmp_path, 10 * 86400)
    other = new_store()
    await other.ensure("thing")
    await other.close()
    assert other.collect(time.time()) == []


AS_SOMEBODY = """
import asyncio, os, sys
from reflow.imagestore.store import ImageStore
os.setgid(65534); os.setuid(65534)
store = ImageStore(sys.argv[1])
print(store.find(sys.argv[2]).id, asyncio.run(store.ensure(sys.argv[2], "newname:1")).id)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_users_store_can_be_read(registry: Registry, new_store: NewStore, tmp_path: Path) -> None:
    serve(registry, IMAGE, "library/thing")
    asyncio.run(new_store().ensure("thing"))
    for each in (tmp_path, *tmp_path.parents):
        if "pytest" in str(each):
            each.chmod(0o755)
    name = f"{HUB}/library/thing@{IMAGE.digest}"
    words = [sys.executable, "-c", AS_SOMEBODY, str(tmp_path / "images"), name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [IMAGE.id, IMAGE.id], done.stderr
