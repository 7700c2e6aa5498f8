"""What `kapla items encode` does: finds items, has them encoded, and puts their list beside them.

A line for each item goes out as soon as it and those before it are done.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

import eris_fs
from eris.capability import ReadCapability
from eris.errors import StoreError
from eris.model import NULL_CONVERGENCE_SECRET
from eris.store import BlockFinder, NullStore
from eris.threads import in_thread
from eris.transfer import put_content
from guix_glue.cli.items_options import hash_part_named
from guix_glue.closures.encoding import Encoded, encode_items
from guix_glue.closures.order import closure_of, in_order
from guix_glue.closures.recording import Recorder
from guix_glue.formats.item_list import format_item_list
from guix_glue.formats.narinfo import Narinfo
from guix_glue.formats.store_path import fixed_output_path, hash_part_of
from guix_glue.local.archive import nar_hash
from guix_glue.local.environment import GuixEnvironment, NixEnvironment
from guix_glue.local.item_directory import DirectoryItems
from guix_glue.local.item_listing import is_base_name
from guix_glue.local.items import Items, open_nix_items, open_store_items
from guix_glue.model import StoreItem
from guix_glue.publish.tree_formats import TreeFormat
from guix_glue.servers.url import Server
from kapla.cli.cache_note import note_cache
from kapla.cli.common import CommandError, ExitCode, Store, connect, progress
from kapla.cli.exit_codes import exit_code
from kapla.cli.noting import Noting
from kapla.cli.pinned import Pinning, Room, pinned
from kapla.cli.store import say
from kapla.encode_cache import EncodeCache, default_cache_path

__all__ = ["Encoding", "How"]

_PATIENCE_S: Final = 24 * 3600.0
"""Entries of a directory are hashed before they can be found, however many there are."""


@dataclass(frozen=True, slots=True)
class How:
    """What the options say of which items are encoded, and how."""

    closure: bool
    directory: str | None
    store: GuixEnvironment | NixEnvironment | None
    """Where there is no directory."""
    store_dir: str
    trees: TreeFormat
    jobs: int
    cached: bool
    servers: tuple[Server, ...]
    acl: Path | None


@dataclass(slots=True)
class Encoding:
    """One run; `code` is what the command ends with, `records` what the list says of items."""

    names: tuple[str, ...]
    how: How
    environment: GuixEnvironment
    recorder: Recorder
    noting: Noting
    code: int = 0
    records: dict[str, bytes] = field(default_factory=dict)
    _said: dict[str, Narinfo] = field(default_factory=dict)
    _printed: set[str] = field(default_factory=set)

    async def run(self, no_store: bool, pinning: Pinning, store_url: str | None) -> ReadCapability:
        """Encode them; gives the capability of the list."""
        async with _opened(self.how, self.environment) as items:
            wanted, ordered = await self._items(items)
            await self._ask(ordered)

            async def encode(into: Store | Room | NullStore) -> ReadCapability:
                await self._encode(items, ordered, into)
                capability = await self._put_list(into, wanted)
                if not isinstance(into, Room | NullStore):
                    await self.noting.before_pin()
                return capability

            if no_store:
                return await encode(NullStore())
            async with connect(store_url) as store:
                # Nobody knows what will be left of them when they are compressed.
                capability = await pinned(
                    store, encode, pinning, size=lambda _: None, may_repeat=True
                )
                await self.noting.note_store(store)
                return capability

    async def _items(self, items: Items) -> tuple[list[StoreItem], list[StoreItem]]:
        """The items that were asked for, and all that are to be encoded, in order."""
        wanted = []
        for name in self.names:
            hash_part = await _hash_part(name, self.how)
            item = await items.find(hash_part)
            if item is None:
                raise CommandError(f"{name} is no item of {self.how.store_dir}", ExitCode.FILE)
            wanted.append(item)
        ordered = await closure_of(items, wanted) if self.how.closure else in_order(wanted)
        return wanted, ordered

    async def _ask(self, ordered: Sequence[StoreItem]) -> None:
        """Ask servers what is signed of the items, if that is wanted."""
        if not self.how.servers:
            return
        from guix_glue.closures.asking import ask_each
        from guix_glue.local.authorities import read_authorities
        from guix_glue.servers.proxies import Proxies
        from guix_glue.upstream.servers import Upstream

        acl = self.how.acl or Path(self.environment.config_dir, "acl")
        authorities = read_authorities(acl, (), os.environ)
        proxies = Proxies.from_environ(os.environ)
        upstream = Upstream(self.how.servers, authorities, self.how.store_dir, proxies)
        try:
            self._said = await ask_each(upstream, [item.hash_part for item in ordered])
        finally:
            await upstream.close()

    async def _encode(
        self, items: Items, ordered: Sequence[StoreItem], into: Store | Room | NullStore
    ) -> None:
        self.records.clear()
        total = sum(item.nar_size for item in ordered)
        counted = "an item" if len(ordered) == 1 else f"{len(ordered)} items"
        with progress(f"Encoding {counted}", total) as shown, _known(into, self.how) as known:

            async def put(location: str) -> ReadCapability:
                told = 0

                def reach(_: int, size: int) -> None:
                    nonlocal told
                    shown.advance(size - told)
                    told = size

                return await self.how.trees.put(into, location, known(), reach)

            encoding = encode_items(items, ordered, put, jobs=self.how.jobs)
            try:
                async with aclosing(encoding) as results:
                    async for result in results:
                        if isinstance(result, Encoded):
                            await self._keep(result)
                        else:
                            say(f"not encoded: {result.reason}")
                            self._fail(ExitCode.DAMAGED if result.altered else ExitCode.INCOMPLETE)
            except StoreError as error:
                raise CommandError(
                    f"{error}; {len(self.records)} of {len(ordered)} items are encoded: run this"
                    " again, and what is done is not done again",
                    exit_code(error),
                ) from error
        if not self.records:
            raise CommandError("no item could be encoded", self.code)

    def _fail(self, code: int) -> None:
        """An altered item is worse than one that cannot be read."""
        if self.code != ExitCode.DAMAGED:
            self.code = code

    async def _keep(self, result: Encoded) -> None:
        item, urn = result.item, result.capability.to_urn()
        said = self._said.get(item.hash_part)
        self.records[item.base_name] = await in_thread(
            self.recorder.record, item, urn, result.archive_digest, said
        )
        if item.base_name not in self._printed:
            self._printed.add(item.base_name)
            click.echo(f"{item.path} {urn}")

    async def _put_list(
        self, into: Store | Room | NullStore, wanted: Sequence[StoreItem]
    ) -> ReadCapability:
        names = dict.fromkeys(item.base_name for item in wanted if item.base_name in self.records)
        text = format_item_list(self.how.store_dir, names, list(self.records.values()))
        capability = await put_content(into, text)
        self.noting.measured.size = len(text)
        return capability


@asynccontextmanager
async def _opened(how: How, environment: GuixEnvironment) -> AsyncIterator[Items]:
    """The items of the store, or of a directory. Raises: CommandError; InvalidItems."""
    items: Items
    if how.directory is not None:
        directory = DirectoryItems(how.directory, how.store_dir, patience_s=_PATIENCE_S)
        directory.begin()
        items = directory
    elif isinstance(how.store, NixEnvironment):
        items = open_nix_items(how.store)
    else:
        items = open_store_items(how.store or environment)
    try:
        yield items
    finally:
        await items.close()


async def _hash_part(name: str, how: How) -> str:
    """The hash part of an item that is named, as by an entry of the directory of items."""
    path = _entry(name, how)
    if path is None:
        return hash_part_named(name, how.store_dir)
    digest, _ = await in_thread(nar_hash, path)
    return hash_part_of(fixed_output_path(how.store_dir, name, digest, recursive=True))


def _entry(name: str, how: How) -> str | None:
    """The entry of the directory that is called so, if its name is not that of an item."""
    if how.directory is None or "/" in name or is_base_name(name):
        return None
    path = os.path.join(how.directory, name)
    return path if os.path.lexists(path) else None


@dataclass(slots=True)
class _Totals:
    """What all items together asked of the encode cache."""

    asked: int = 0
    confirmed: int = 0


@contextmanager
def _known(
    into: Store | Room | NullStore, how: How
) -> Iterator[Callable[[], eris_fs.KnownContents | None]]:
    """What need not be encoded again: gives what looks it up for one item."""
    place = default_cache_path()
    if not how.cached or place is None or not isinstance(into, BlockFinder):
        yield lambda: None
        return
    finder = into
    cache = EncodeCache(place, secret=NULL_CONVERGENCE_SECRET, variant=how.trees.variant)
    given: list[eris_fs.KnownContents] = []

    def give() -> eris_fs.KnownContents:
        given.append(eris_fs.KnownContents(cache, finder))
        return given[-1]

    try:
        yield give
    finally:
        cache.close()
        asked = sum(one.asked for one in given)
        note_cache(_Totals(asked, sum(one.confirmed for one in given)))
