"""An item out of a delta and another item, which is here: the events of its nar.

The other item is read where it lies, and nobody vouches for what is read: it may be altered, or go
away meanwhile. Nor does anybody vouch for the delta. So it makes no more than the nar has room for,
and what it may read, here as there, is bounded by that too; whoever takes the events compares the
hash of the nar.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from eris import node
from eris.capability import ReadCapability
from eris.store import BlockReader
from eris.threads import in_thread
from eris_fs.delta.apply import Delta, open_delta
from eris_fs.delta.directory import DirectoryFiles
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.framing import format_start
from eris_fs.delta.model import BaseRange
from eris_fs.errors import UnsupportedEntry
from eris_fs.model import printable
from eris_fs.outline import Outline
from guix_glue.errors import FetchFailed
from guix_glue.formats.nar import NarEvent, NarLimits
from guix_glue.local.tree_events import outline_events, tree_limits

__all__ = ["delta_events"]

# Of the base at most so many times the nar is read, and something for the smallest: more than any
# encoder takes, while a hostile delta could have a base that is far larger read again and again.
_READINGS: Final = 16
_SLACK: Final = 64 * 1024 * 1024
# What a nar tells of an entry is more than an index does, but for some small trees.
_INDEX_SLACK: Final = 16 * 1024 * 1024


async def delta_events(
    store: BlockReader,
    capability: ReadCapability,
    base: str,
    nar_size: int,
    expect: Callable[[int], None],
) -> AsyncGenerator[list[NarEvent], None]:
    """Read an item as the events of its nar, of `nar_size` bytes at most, many at a time.

    `base` is the path of the other item. `expect` is called once, with the bytes of all blocks of
    the delta. Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: FetchFailed; TreeError, for a delta that is none or is for another base, and for a base
    that changes; BlockNotFound, ContentError, StoreError; OSError.
    """
    limits = tree_limits(nar_size)
    limits = replace(
        limits,
        content_size=min(limits.content_size, nar_size),
        index_size=min(limits.index_size, nar_size + _INDEX_SLACK),
    )
    with await in_thread(_opened, base) as files:
        bounded = _BoundedFiles(files, _READINGS * nar_size + _SLACK)
        async with open_delta(store, capability, bounded, limits=limits) as delta:
            expect(_block_bytes(delta, capability))
            async with (
                aclosing(delta.files(listing=False)) as pieces,
                aclosing(outline_events(delta.outline, pieces, NarLimits(size=nar_size))) as events,
            ):
                async for batch in events:
                    yield batch


def _opened(base: str) -> DirectoryFiles:
    """Look at the other item. Raises: FetchFailed, if it is none that a delta could lead from."""
    try:
        return DirectoryFiles(base)
    except UnsupportedEntry as error:
        raise FetchFailed(
            f"{printable(error.path)} is no base of a delta: {error.reason}"
        ) from error


def _block_bytes(delta: Delta, capability: ReadCapability) -> int:
    stored = sum(patch.stored_size for patch in delta.tree.patches)
    size = len(format_start(delta.head, stored)) + delta.head.index_size + stored
    return node.block_count(size, capability.block_size) * capability.block_size


class _BoundedFiles:
    """A tree of whose files no more than so many bytes are read."""

    def __init__(self, files: TreeFiles, most: int) -> None:
        self._files = files
        self._left = most

    @property
    def outline(self) -> Outline:
        """As of `TreeFiles`."""
        return self._files.outline

    async def read(self, ranges: Sequence[BaseRange]) -> bytes:
        """As of `TreeFiles`. Raises: FetchFailed, for more than may be read."""
        self._left -= sum(one.length for one in ranges)
        if self._left < 0:
            raise FetchFailed("the delta reads far more of its base than it makes of it")
        return await self._files.read(ranges)
