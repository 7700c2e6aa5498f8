"""How `kapla encode` gets paths into a store: as plain content, or as a tree of either kind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import eris_fs
from eris.capability import ReadCapability
from eris.model import BlockSize, ConvergenceSecret
from eris.store import BlockFinder, NullStore
from eris.transfer import put_content
from kapla.cli.cache_note import note_cache
from kapla.cli.common import (
    CommandError,
    ExitCode,
    Silent,
    Store,
    connect,
    progress,
    shows_progress,
    standard_input,
)
from kapla.cli.exclude import explained
from kapla.cli.noting import Measured, Noting
from kapla.cli.pinned import Pinning, Room, pinned
from kapla.cli.selecting import Selecting
from kapla.cli.source import content_of, open_source, size_of
from kapla.cli.sources import Sources
from kapla.encode_cache import EncodeCache, default_cache_path

__all__ = ["How", "encode_sources"]

Into: TypeAlias = "Store | Room | NullStore"
"""What blocks are put into, or counted by."""


@dataclass(frozen=True, slots=True)
class How:
    """How contents are to be encoded."""

    rule: str
    level: int | None
    """Of a packed tree; None for other trees and plain content."""
    secret: ConvergenceSecret
    cached: bool
    selecting: Selecting
    measured: Measured

    @property
    def block_size(self) -> BlockSize | eris_fs.SizeRule | None:
        """The block size, or the rule for it, in the words of the libraries."""
        fixed = {size.label: size for size in BlockSize}
        return eris_fs.choose_by_cost if self.rule == "cost" else fixed.get(self.rule)

    @property
    def variant(self) -> str:
        """What else an encoding depends on, beside contents and secret: for the cache."""
        if self.level is None:
            return self.rule
        return f"kapla-packed-1, {eris_fs.writer_name(self.level)}"

    def block_size_of(self, size: int | None) -> BlockSize | None:
        """The block size of plain content of so many bytes; None: as its length asks for.

        Raises: CommandError, if that cannot be told without the length.
        """
        rule = self.block_size
        if rule is None or isinstance(rule, BlockSize):
            return rule
        if size is None:
            raise CommandError(
                "--block-size cost wants to know how much comes: use a file", ExitCode.USAGE
            )
        return rule(size)


async def encode_sources(
    sources: Sources, how: How, no_store: bool, pinning: Pinning, noting: Noting, url: str | None
) -> ReadCapability:
    """Encode them into the store at `url`, under a pin; or, without a store, only compute."""
    if no_store:
        return await _encode_into(NullStore(), sources, how)

    async def encode(into: Store | Room) -> ReadCapability:
        capability = await _encode_into(into, sources, how)
        if not isinstance(into, Room):
            await noting.before_pin()
        return capability

    async with connect(url) as store:
        capability = await pinned(
            store,
            encode,
            pinning,
            size=lambda room: _size(sources, how, room),
            may_repeat=sources.may_be_read_again,
        )
        await noting.note_store(store)
        return capability


def _size(sources: Sources, how: How, room: int) -> int | None:
    """How many bytes there are to encode; None where they cannot be counted, or need not be."""
    # What is wrong with them is said when they are read.
    with suppress(OSError, eris_fs.TreeError):
        if sources.is_stream:
            return size_of(standard_input())
        if not sources.is_tree:
            return sources.size_of_file()
        return None if sources.size_at_most() <= room else _measure(sources, how)
    return None


def _measure(sources: Sources, how: How) -> int:
    """Count the bytes of a tree."""
    packed, selection = how.level is not None, how.selecting.for_measuring
    return eris_fs.measure_tree(sources.root, any_bytes=packed, selection=selection).size


async def _encode_into(store: Into, sources: Sources, how: How) -> ReadCapability:
    if sources.is_stream:
        file = standard_input()
        start = file.tell() if isinstance(store, Room) else 0
        capability = await _encode_stream(store, file, "standard input", how)
        if isinstance(store, Room):
            file.seek(start)
        return capability
    with _known(store, how) as known:
        how.selecting.begin()
        if not sources.is_tree and how.level is None:
            return await _encode_file(store, sources.paths[0], how, known)
        try:
            return await _encode_tree(store, sources, how, known)
        except eris_fs.TreeError as error:
            if better := explained(error, sources.paths, packed=how.level is not None):
                raise better from error
            raise


@contextmanager
def _known(store: Into, how: How) -> Iterator[eris_fs.KnownContents | None]:
    """What need not be encoded again."""
    place = default_cache_path()
    if not how.cached or place is None or not isinstance(store, BlockFinder):
        yield None
        return
    cache = EncodeCache(place, secret=how.secret, variant=how.variant)
    known = eris_fs.KnownContents(cache, store)
    try:
        yield known
    finally:
        cache.close()
        note_cache(known)


async def _encode_file(
    store: Into, path: str, how: How, known: eris_fs.KnownContents | None
) -> ReadCapability:
    with open_source(path) as file:
        status = eris_fs.settled_status(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return await _encode_stream(store, file, path, how)
        block_size = how.block_size_of(status.st_size)
        opened = eris_fs.OpenFile(os.dup(file.fileno()), path, status)
        with opened, progress(f"Encoding {path}", status.st_size) as shown:
            put = await eris_fs.put_file(
                store,
                opened,
                block_size=block_size,
                convergence_secret=how.secret,
                known=known,
                finder=_finder(store, how),
                done=how.measured.beside(shown).advance,
            )
        if known is not None:
            await known.remember(put.encoded)
        return put.capability


async def _encode_stream(store: Into, file: BinaryIO, name: str, how: How) -> ReadCapability:
    size = size_of(file)
    block_size = how.block_size_of(size)
    with progress(f"Encoding {name}", size) as shown:
        # The catalogue wants what was read; whoever waits, what the store has.
        read = how.measured.beside(Silent())
        whole = eris_fs.Whole(size, shown.advance)
        capability = await put_content(
            store,
            content_of(file, read),
            block_size=block_size,
            convergence_secret=how.secret,
            finder=_finder(store, how),
            kept=whole.keep,
        )
        whole.finish(how.measured.size)
        return capability


def _finder(store: Into, how: How) -> BlockFinder | None:
    """Who tells what need not be sent; a `Room` finds that out by itself."""
    if how.cached and isinstance(store, BlockFinder) and not isinstance(store, Room):
        return store
    return None


async def _encode_tree(
    store: Into, sources: Sources, how: How, known: eris_fs.KnownContents | None
) -> ReadCapability:
    # Looking through the tree twice costs little, but only a person asks how long it takes.
    total = _measure(sources, how) if shows_progress() else None
    with progress(f"Encoding {sources.title}", total) as shown:
        shown = how.measured.beside(shown)
        if how.level is not None:
            return await eris_fs.put_packed_tree(
                store,
                sources.root,
                level=how.level,
                convergence_secret=how.secret,
                progress=shown.reach,
                known=known,
                selection=how.selecting.selection,
            )
        return await eris_fs.put_tree(
            store,
            sources.root,
            block_size=how.block_size,
            convergence_secret=how.secret,
            progress=shown.reach,
            known=known,
            selection=how.selecting.selection,
        )
