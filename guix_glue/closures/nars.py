"""The bytes of an item's nar: out of blocks, or from a server, in pieces as they come.

Nothing of it is believed: whoever takes the pieces compares the hash. That is known at the end; but
what is handed on is one nar, of which nothing follows the end, whoever sent it. Else what a server
puts there would be read as the end of the item by those who import an archive as it comes.

Blocks are tried first: by the URNs that came with the item, else by those that somebody knows. A
store of blocks that cannot be reached is not asked again while there is another way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, assert_never

from eris.capability import ReadCapability
from eris.errors import InvalidCapability, StoreUnavailable
from eris.store import BlockReader
from eris.threads import in_thread
from eris_fs import load_tree
from guix_glue.closures.wanted import Wanted
from guix_glue.errors import CompressionError, FetchFailed, HashMismatch
from guix_glue.formats.compression import decompressor
from guix_glue.formats.nar import NarLimits, NarReader, NarWriter
from guix_glue.formats.narinfo import Narinfo
from guix_glue.local.tree_events import tree_events, tree_limits
from guix_glue.servers.limits import MIN_RATE, NAR_STALL_S
from guix_glue.servers.nars import NarEnd, NarSource
from guix_glue.servers.url import Server
from guix_glue.servers.watch import Watch
from guix_glue.sources.hints import Hints
from guix_glue.sources.watched_store import WatchedStore

__all__ = ["NarServers", "Nars", "Way"]

# Decompressed at a time; and gathered before it is handed on.
_STEP: Final = 1024 * 1024
# What a compressed nar may be longer than one that cannot be compressed.
_SLACK: Final = 256 * 1024


class NarServers(Protocol):
    """Servers that have nars."""

    def nar_sources(self, server: Server, narinfo: Narinfo) -> Sequence[NarSource]:
        """Where the nars are that a narinfo names, in the order to try them."""

    def nar(
        self, source: NarSource, nar_size: int, end: NarEnd | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Fetch one, as it is sent. Raises, when iterated: FetchFailed."""


@dataclass(frozen=True, slots=True)
class _TreeWay:
    """Out of blocks; `hint`: the URN, if it is somebody's who need not know."""

    capability: ReadCapability = field(repr=False)
    hint: str | None = field(default=None, repr=False)


Way: TypeAlias = _TreeWay | NarSource


class Nars:
    """Gives nars. `store` is None where there are no blocks, `servers` where there are only these.

    A store is given up that brings no block for `stall_s` seconds; of one that brings too little in
    that time, less than `min_rate` bytes a second, that holds as well. So it is for servers.
    """

    def __init__(
        self,
        store: BlockReader | None,
        servers: NarServers | None = None,
        hints: Hints | None = None,
        *,
        stall_s: float = 30.0,
        min_rate: int = MIN_RATE,
    ) -> None:
        self._store = store
        self._servers = servers
        self._hints = hints
        self._stall_s = stall_s
        self._min_rate = min_rate
        self._store_failed = False

    async def ways(self, wanted: Wanted) -> list[Way]:
        """How the nar of an item may be had, in the order to try them."""
        nars = self._nar_sources(wanted)
        if self._store is None or (self._store_failed and nars):
            return nars
        trees: list[Way] = [_TreeWay(one) for one in _capabilities(wanted.urns)]
        if self._hints is not None and not trees:
            for urn in await self._hints.urns(wanted.item.hash_part):
                trees += [_TreeWay(one, urn) for one in _capabilities([urn])]
        return [*trees, *nars]

    def watch(self, way: Way) -> Watch:
        """What ends the fetching when nothing comes, or too little: see `pieces`."""
        stall_s = NAR_STALL_S if isinstance(way, NarSource) else self._stall_s
        return Watch(stall_s, self._min_rate)

    def pieces(self, way: Way, wanted: Wanted, watch: Watch) -> AsyncGenerator[bytes, None]:
        """The nar, in pieces of about a MiB. Close the iterator if it is not read to its end.

        Raises: FetchFailed, CompressionError, InvalidNar, UnsafePath; BlockNotFound, ContentError,
        StoreError.
        """
        match way:
            case _TreeWay(capability):
                return self._tree(capability, wanted.item.nar_size, watch)
            case NarSource():
                return self._nar(way, wanted.item.nar_size, watch)
            case _:
                assert_never(way)

    async def failed(self, way: Way, wanted: Wanted, error: Exception) -> None:
        """What came by a way, or did not: for the next time."""
        if isinstance(way, NarSource):
            return
        if isinstance(error, StoreUnavailable | TimeoutError):
            self._store_failed = True
        elif isinstance(error, HashMismatch) and way.hint is not None and self._hints is not None:
            await self._hints.forget(wanted.item.hash_part, way.hint)

    def _nar_sources(self, wanted: Wanted) -> list[Way]:
        if self._servers is None or wanted.server is None or wanted.narinfo is None:
            return []
        return list(self._servers.nar_sources(wanted.server, wanted.narinfo))

    async def _tree(
        self, capability: ReadCapability, nar_size: int, watch: Watch
    ) -> AsyncGenerator[bytes, None]:
        assert self._store is not None
        store = WatchedStore(self._store, watch)
        tree = await load_tree(store, capability, limits=tree_limits(nar_size))
        writer = NarWriter()
        async with aclosing(tree_events(store, tree, NarLimits(size=nar_size))) as batches:
            async for events in batches:
                try:
                    yield b"".join(map(writer.write, events))
                except ValueError as error:
                    raise FetchFailed(f"the tree is none of an item: {error}") from error
        yield writer.finish()

    async def _nar(
        self, source: NarSource, nar_size: int, watch: Watch
    ) -> AsyncGenerator[bytes, None]:
        assert self._servers is not None
        unpacker, end, received = decompressor(source.compression), NarEnd(), 0
        reader = NarReader(NarLimits(size=nar_size))
        try:
            async with aclosing(self._servers.nar(source, nar_size, end)) as pieces:
                async for piece in pieces:
                    watch.touch(len(piece))
                    received += len(piece)
                    if received > nar_size + nar_size // 16 + _SLACK:
                        raise FetchFailed(f"more comes than a nar of {nar_size} bytes can take")
                    unpacked = unpacker.feed(piece, _STEP)
                    while (nar := await in_thread(_next, unpacked, reader)) is not None:
                        yield nar
            unpacker.finish()
        except CompressionError as error:
            raise end.judge(error) from error


def _next(pieces: Iterator[bytes], reader: NarReader) -> bytes | None:
    """The next piece, if it goes on with the nar. Raises: CompressionError, InvalidNar."""
    piece = next(pieces, None)
    if piece is not None:
        reader.feed(piece)
    return piece


def _capabilities(urns: Sequence[str]) -> list[ReadCapability]:
    """Those that can be read by."""
    found = []
    for urn in urns:
        try:
            found.append(ReadCapability.from_urn(urn))
        except InvalidCapability:
            continue
    return found
