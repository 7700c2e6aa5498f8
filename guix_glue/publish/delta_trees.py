"""Where deltas have their trees from: items as they lie in a store, or their trees of blocks.

Files that lie in a store are compared with the hash that it says before they are used: a delta that
was made of others would be signed, and lead nobody to the item. An item that is a base may be
collected while it is read, and blocks of its tree may be gone. That is told apart (`BaseGone`), as
it says nothing of the item that the delta leads to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    suppress,
)
from dataclasses import dataclass
from typing import Final, Protocol

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, ContentError, InvalidCapability
from eris.store import BlockReader
from eris.threads import in_thread
from eris_fs import load_tree
from eris_fs.delta.directory import DirectoryFiles
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.model import BaseRange
from eris_fs.delta.stored import StoredFiles
from eris_fs.errors import FileChanged, InvalidManifest, UnsafePath, UnsupportedEntry
from eris_fs.outline import Outline
from guix_glue.errors import DamagedItem, UnsupportedItem
from guix_glue.kept.delta_results import DeltaResult
from guix_glue.kept.records import Destination, ErisResult
from guix_glue.local.archive import hash_steps
from guix_glue.model import StoreItem

__all__ = ["BaseGone", "KnownTree", "OpenTree", "TreesOfItems", "opened_base"]

OpenTree = Callable[[BlockReader], AbstractAsyncContextManager[TreeFiles]]
"""Opens a tree; out of this store, if that is where it is."""

_GONE: Final = (
    *(FileChanged, InvalidManifest, UnsafePath, InvalidCapability),
    *(BlockNotFound, ContentError, OSError, DamagedItem, UnsupportedItem),
)

_Hashing = Generator[int, None, tuple[bytes, int]]
_HASHED_AT_ONCE: Final = 64
"""Steps of up to 1 MiB: whoever stops does not wait for more."""


class BaseGone(Exception):
    """The files or blocks of a base are not there, or not any more."""


@dataclass(frozen=True, slots=True)
class KnownTree:
    """An item whose nar was seen to be right; `location` is where it lies, None if it does not."""

    item: StoreItem
    eris: ErisResult | None
    location: str | None

    def ways(self, wanted: Destination) -> tuple[OpenTree, ...]:
        """How its files can be read, the cheapest first."""
        urn = None if self.eris is None else self.eris.urn_in(wanted)
        lying = () if self.location is None else (_in_directory(self.item, self.location),)
        stored = () if urn is None else (_in_store(urn),)
        return (*lying, *stored)

    def way(self, wanted: Destination) -> OpenTree:
        """The first of these by which they can be opened; there must be one."""
        return _first_of(self.ways(wanted))


class TreesOfItems(Protocol):
    """The records of a publisher, or of a mirror."""

    def items(self) -> Iterator[tuple[str, float]]:
        """All base names, each with when it was baked (epoch). For worker threads.

        Raises, when it is read: OSError.
        """

    async def look(self, hash_part: str) -> KnownTree | None:
        """What is known of an item; that is no use of it."""

    async def keep(self, tree: KnownTree, result: DeltaResult) -> None:
        """Note what became of a delta that leads to an item. Raises: OSError."""


def _first_of(ways: Sequence[OpenTree]) -> OpenTree:
    *others, last = ways

    @asynccontextmanager
    async def opened(store: BlockReader) -> AsyncIterator[TreeFiles]:
        async with AsyncExitStack() as stack:
            for way in others:
                with suppress(*_GONE, UnsupportedEntry):
                    files = await stack.enter_async_context(way(store))
                    break
            else:
                files = await stack.enter_async_context(last(store))
            yield files

    return opened


def _in_directory(item: StoreItem, location: str) -> OpenTree:
    @asynccontextmanager
    async def opened(store: BlockReader) -> AsyncIterator[TreeFiles]:
        files = await in_thread(DirectoryFiles, location)
        try:
            await _check(item, location)
            yield files
        finally:
            files.close()

    return opened


async def _check(item: StoreItem, location: str) -> None:
    """Raises: DamagedItem, if files are not those of the item; UnsupportedItem, OSError."""
    with closing(hash_steps(location)) as steps:
        digest = None
        while digest is None:
            digest = await in_thread(_go_on, steps)
    if digest != item.nar_hash:
        raise DamagedItem(item.base_name)


def _go_on(steps: _Hashing) -> bytes | None:
    """Hash some more; the hash, if that was all."""
    try:
        for _ in range(_HASHED_AT_ONCE):
            next(steps)
    except StopIteration as done:
        digest: bytes = done.value[0]
        return digest
    return None


def _in_store(urn: str) -> OpenTree:
    @asynccontextmanager
    async def opened(store: BlockReader) -> AsyncIterator[TreeFiles]:
        tree = await load_tree(store, ReadCapability.from_urn(urn))
        async with StoredFiles(store, tree) as files:
            yield files

    return opened


@asynccontextmanager
async def opened_base(open_tree: OpenTree, store: BlockReader) -> AsyncIterator[TreeFiles]:
    """Open a tree as the base of a delta.

    Raises: BaseGone, also when it is read; UnsupportedEntry, TreeTooLarge; StoreError.
    """
    async with AsyncExitStack() as stack:
        try:
            files = await stack.enter_async_context(open_tree(store))
        except UnsupportedEntry as error:
            if isinstance(error.__cause__, OSError):
                raise BaseGone from error
            raise
        except _GONE as error:
            raise BaseGone from error
        yield _Base(files)


class _Base:
    """The files of a base, with `BaseGone` for all that is wrong with them."""

    def __init__(self, files: TreeFiles) -> None:
        self._files = files

    @property
    def outline(self) -> Outline:
        return self._files.outline

    async def read(self, ranges: Sequence[BaseRange]) -> bytes:
        try:
            return await self._files.read(ranges)
        except _GONE as error:
            raise BaseGone from error
