"""An item that is here, the one that takes its place, and what leads from one to the other."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import eris_fs
from eris.store import BlockReader, BlockWriter, MemoryStore
from eris.transfer import put_content
from guix_glue.fetch.dialogue import Substitute
from guix_glue.fetch.fetcher import Fetcher
from guix_glue.fetch.lookup import Lookup
from guix_glue.fetch.places import Places
from guix_glue.fetch.session import Policy
from guix_glue.fetch.settings import DEFAULT_SETTINGS, FetchSettings
from guix_glue.fetch.substitution import SubstituteSession
from guix_glue.fetch.traces import Messages
from guix_glue.formats.narinfo import DeltaLine, NarUrl, format_narinfo, format_unsigned
from guix_glue.local.installed import InstalledItems
from guix_glue.servers.url import parse_server
from guix_glue.trust.keys import PrivateKey
from guix_glue.trust.signature import sign_text
from tests.clocks import Clock, run_on_clock
from tests.eris_fs.delta.raw import Link, Tree, make
from tests.eris_fs.delta.trees import lay_out
from tests.guix_glue.fetch.bringing import ACL, Brought
from tests.guix_glue.fetch.fakes import FakeServer
from tests.guix_glue.fetch.support import HASH_PART, KEY, Made, make_item, plain_url

__all__ = ["NEW", "OLD", "OLD_NAME", "Upgrade", "bring_upgrade", "make_upgrade"]

OLD_NAME: Final = f"{'1' * 32}-app-1.2.2"
_NEW_NAME: Final = f"{HASH_PART}-app-1.2.3"

_PROGRAM: Final = hashlib.shake_128(b"program").digest(900_000)
_DATA: Final = hashlib.shake_128(b"data").digest(300_000)

OLD: Final[Tree] = {
    "bin/app*": _PROGRAM,
    "bin/link": Link("app"),
    "share/data": _DATA,
    "share/gone": b"gone" * 1000,
    "share/é ü": b"a name",
    "share/void": None,
}
NEW: Final[Tree] = {
    "bin/app*": _PROGRAM[:400_000] + b"rebuilt" + _PROGRAM[400_007:],
    "bin/link": Link("app"),
    "lib/moved": _DATA,
    "share/fresh": hashlib.shake_128(b"fresh").digest(100_000),
    "share/new": b"new" * 1000,
    "share/new again": b"new" * 1000,
    "share/program*": b"#!/bin/sh\n",
    "share/é ü": b"a name",
    "share/nothing": b"",
    "void": None,
}


@dataclass(frozen=True)
class Upgrade:
    """`old` is in the store's directory, `new` elsewhere, and what leads there is in `blocks`."""

    store_dir: Path
    old: Path
    new: Made
    blocks: MemoryStore
    delta: str
    packed: str
    standard: str

    @property
    def line(self) -> DeltaLine:
        """What a narinfo says of the delta."""
        return DeltaLine(self.old.name, self.delta)

    def put(self, base: Tree, new: Tree) -> DeltaLine:
        """Another delta, said to be from the same base."""
        return DeltaLine(self.old.name, put_delta(self.blocks, base, new))

    def narinfo(
        self,
        deltas: Sequence[DeltaLine] = (),
        *,
        hints: Sequence[DeltaLine] = (),
        urn: str | None = None,
        urls: Sequence[NarUrl] | None = None,
        key: PrivateKey | None = KEY,
    ) -> bytes:
        """The narinfo of the new item, by default with its plain nar."""
        urls = (plain_url(self.new),) if urls is None else urls
        unsigned = format_unsigned(self.new.item, urn, deltas)
        signature = None if key is None else sign_text(key, unsigned, "test")
        return format_narinfo(unsigned, signature, urls, hint_deltas=hints)

    def publish(
        self,
        server: FakeServer,
        deltas: Sequence[DeltaLine] = (),
        *,
        hints: Sequence[DeltaLine] = (),
        urn: str | None = None,
        urls: Sequence[NarUrl] | None = None,
        key: PrivateKey | None = KEY,
    ) -> None:
        """Serve that narinfo, and the plain nar."""
        item = self.new.item
        text = self.narinfo(deltas, hints=hints, urn=urn, urls=urls, key=key)
        server.files[f"/{item.hash_part}.narinfo"] = text
        server.files[f"/nar/{item.base_name}"] = self.new.nar


def put_delta(store: BlockWriter, base: Tree, new: Tree) -> str:
    """Put a delta, right or wrong; returns its URN."""
    return asyncio.run(put_content(store, make(base, new).to_bytes())).to_urn()


def make_upgrade(directory: Path, base: Tree = OLD, new: Tree = NEW) -> Upgrade:
    """Make both items, and put what leads from one to the other, and the whole."""
    store_dir = directory / "store"
    old = lay_out(base, store_dir / OLD_NAME)
    root = lay_out(new, directory / "new")
    made = make_item(root, _NEW_NAME)
    made = replace(made, item=replace(made.item, path=f"{store_dir}/{_NEW_NAME}"))
    blocks = MemoryStore()

    async def put() -> tuple[str, str]:
        packed = await eris_fs.put_packed_tree(blocks, root, level=3)
        return packed.to_urn(), (await eris_fs.put_tree(blocks, root)).to_urn()

    packed, standard = asyncio.run(put())
    delta = put_delta(blocks, base, new)
    return Upgrade(store_dir, old, made, blocks, delta, packed, standard)


def bring_upgrade(
    upgrade: Upgrade,
    destination: Path,
    *urls: str,
    store: BlockReader | None = None,
    settings: FetchSettings = DEFAULT_SETTINGS,
    places: Places | None = None,
    deduplicate: bool = False,
    extended: bool = True,
    nearby: Sequence[str] = (),
) -> Brought:
    """Let a session bring the new item, as `bring` does, out of the blocks if nothing is given."""
    written = bytearray()
    database = os.path.join(upgrade.store_dir.parent, "db")

    async def run(clock: Clock) -> tuple[bytes, float]:
        messages = Messages(written.extend, extended=extended)
        found = [replace(parse_server(url), nearby=True) for url in nearby]
        lookup = Lookup([*found, *map(parse_server, urls)], messages)
        blocks = upgrade.blocks if store is None else store
        fetcher = Fetcher(blocks, messages, settings, places=places)
        session = SubstituteSession(
            Policy(str(upgrade.store_dir), ACL, True, settings),
            lookup,
            messages,
            fetcher,
            deduplicate=deduplicate,
            installed=InstalledItems(database, str(upgrade.store_dir)),
        )
        began = clock.time()
        try:
            path = upgrade.new.item.path
            return await session.answer(Substitute(path, str(destination))), clock.time() - began
        finally:
            lookup.close()
            await fetcher.close()

    reply, took_s = run_on_clock(run)
    return Brought(reply, written.decode(), took_s)
