"""Images made available without a daemon: unpacked root file systems below ``$REFLOW_HOME/images``.

For executors::

    store = ImageStore(f"{home()}/images", inform=log.info, config_digest=digests.config_digest)
    image = await store.ensure(config.image, config.original_image, progress=progress)
    image.root, image.env, image.working_dir     # the unpacked root file system, and what the image sets
    store.find(name)                             # the same, asking nobody else: None if it is not kept
    await store.close()                          # lets go of the images: others may remove them now

`reflow.imagestore.store.ImageStore.ensure` looks in the store, asks the Docker daemon, asks the registry;
what it brings is checked against its digests, and unpacked once however many runs want it. Cancelling it
leaves nothing half-made. It raises ReflowError: NOT_EXIST (with all that was tried), NOT_ALLOWED,
TOO_MANY_TRIES, INTEGRITY, NOT_SUPPORTED (made for another machine), RESOURCES_EXHAUSTED (the disk is full),
INVALID. Where an image was kept before, nobody is asked.

A root file system is shared by all runs: mount it read-only, or as the lower layer of an overlay; never write
to it. Owners, devices, set-user-id bits and extended attributes are dropped; directories are writable by us.

For people: `ImageStore.load` takes what ``docker save`` wrote, `kept` lists, `collect` removes.

On disk, below the store's directory:

* ``sha256/<hex>/`` is an image, named by its id: the digest of its configuration, which has the digests of
  its layers. ``root/`` is its root file system, ``config.json`` its configuration, ``about.json`` has a few
  facts. It appears at once and whole, by a rename.
* ``locks/<hex>`` is locked (flock), exclusively by whoever unpacks or removes an image, shared by whoever
  uses it. Its modification time says when it was last used.
* ``tmp/<name>`` with ``tmp/<name>.lock`` is work that goes on; without a live owner it is swept away.
* ``index.json`` has names and digests -> id, and what is known of each image.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Image", "Kept"]


class Image(NamedTuple):
    """An image that is here, unpacked.

    ``id`` is the digest of its configuration, ``digest`` that of its manifest (empty when only the daemon or
    a file had it), both as ``sha256:…``. ``env`` has ``NAME=value`` texts. ``source`` says where it came
    from. ``size_bytes`` adds the sizes of its files up.
    """

    id: str
    digest: str
    root: str
    env: tuple[str, ...]
    working_dir: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    user: str
    os: str
    architecture: str
    source: str
    size_bytes: int


class Kept(NamedTuple):
    """An image of the store, for lists: complete names, and times in seconds since 1970."""

    id: str
    names: tuple[str, ...]
    size_bytes: int
    files: int
    source: str
    unpacked_s: float
    used_s: float
    is_used: bool
