"""Items in a directory, as values and as trees in a store of blocks."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import eris_fs
from eris.capability import ReadCapability
from eris.store import MemoryStore
from guix_glue.closures.wanted import Wanted
from guix_glue.local.archive import nar_hash
from guix_glue.model import StoreItem
from tests.eris_fs.trees import File, Link, Node, lay_out
from tests.guix_glue.publish.support import make_item, nar_of

__all__ = ["BIG", "GREETING", "WORDS", "Made", "export_of", "make", "wanted_of"]

WORDS: Node = File(b"words\n")
GREETING: Node = {
    "bin": {"hello": File(b"#!/bin/sh\necho hello\n", executable=True)},
    "run": Link("bin/hello"),
    "empty": {},
    "\u00e4": File(b"x" * 10_000),
}
BIG: Node = {
    "data": File(random.Random(1).randbytes(2_500_000)),
    "more": File(random.Random(2).randbytes(100_000)),
}
"""Larger than what is made in memory."""


@dataclass(frozen=True)
class Made:
    """An item, and where its files are."""

    item: StoreItem
    path: Path

    @property
    def nar(self) -> bytes:
        return nar_of(self.path)


def make(
    directory: Path, name: str, node: Node, *references: str, store_dir: str = "/gnu/store"
) -> Made:
    """Make an item; it may refer to itself by the name `self`."""
    path = make_item(directory, name)
    lay_out(node, path)
    digest, size = nar_hash(str(path))
    names = sorted(path.name if one == "self" else one for one in references)
    return Made(StoreItem(f"{store_dir}/{path.name}", digest, size, tuple(names)), path)


async def wanted_of(store: MemoryStore, *items: Made) -> list[Wanted]:
    """The items, as they are fetched out of a store that has their trees."""
    found = []
    for made in items:
        capability = await eris_fs.put_packed_tree(store, str(made.path), level=1)
        found.append(Wanted(made.item, (capability.to_urn(),)))
    return found


def with_urns(wanted: Wanted, *capabilities: ReadCapability) -> Wanted:
    """The same item, said to be elsewhere."""
    return replace(wanted, urns=tuple(one.to_urn() for one in capabilities))


def export_of(items: Sequence[Made], signatures: Sequence[bytes | None] | None = None) -> bytes:
    """The archive of items, written here by hand."""

    def word(number: int) -> bytes:
        return number.to_bytes(8, "little")

    def string(text: bytes) -> bytes:
        return word(len(text)) + text + bytes(-len(text) % 8)

    archive = bytearray()
    for made, signature in zip(items, signatures or [None] * len(items), strict=True):
        directory = made.item.store_dir
        names = [string(f"{directory}/{name}".encode()) for name in made.item.references]
        deriver = f"{directory}/{made.item.deriver}" if made.item.deriver else ""
        archive += word(1) + made.nar + word(0x4558494E) + string(made.item.path.encode())
        archive += word(len(names)) + b"".join(names) + string(deriver.encode())
        archive += word(0) if signature is None else word(1) + string(signature)
    return bytes(archive) + word(0)


def digest_of(made: Made) -> bytes:
    """What a signature of an item in an archive is of."""
    return hashlib.sha256(export_of([made])[8:-16]).digest()
