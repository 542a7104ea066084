"""Whether images can be had without a daemon: unpacked here, or known to their registry."""

from __future__ import annotations

import os
from collections.abc import Collection

from reflow.disk.blocking import Blocking
from reflow.executor.images import TIMEOUT_S
from reflow.flow.node import strip_qualifiers
from reflow.imagestore.failure import ImageError
from reflow.imagestore.name import ImageName, parse_image
from reflow.imagestore.store import ImageStore

_AT_ONCE = 8


async def missing_images(images: Collection[str], store: ImageStore) -> dict[str, str]:
    """Which of these images cannot be had, and why; registries are asked for those that are not here."""
    missing: dict[str, str] = {}
    unknown: dict[str, ImageName] = {}
    known = {name for row in store.kept() for name in row.names}
    for image in sorted(set(images) - {""}):
        text, _, wants_docker = strip_qualifiers(image)
        try:
            name = parse_image(text)
        except ValueError as err:
            missing[image] = str(err)
            continue
        if wants_docker:
            missing[image] = "it asks for the docker daemon ($docker)"
        elif str(name) not in known and store.find(text) is None:
            unknown[image] = name
    calls = Blocking("registry", _AT_ONCE)
    try:
        for image, name in unknown.items():
            why = await calls(_ask, name)
            if why:
                missing[image] = why
                break  # one is enough to know
    finally:
        calls.close()
    return missing


def _ask(name: ImageName) -> str:
    from reflow.imagestore.registry import fetch_manifest  # HTTP and TLS take long to import

    try:
        fetch_manifest(name, os.environ.get("REFLOW_REGISTRY", ""), TIMEOUT_S)
    except ImageError as err:
        return str(err)
    return ""
