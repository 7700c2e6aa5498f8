"""What the peers of one listener may do with the blocks.

The handlers behind every lane: whether blocks may be read or added is checked here, and those
requests are counted here, so that no way in can forget either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from eris.errors import BlockNotFound, CorruptBlock, ErisError, StoreRefused
from eris.model import BlockSize, EncodedBlock, Reference
from kapla.storage.batching import BatchedStorage, GetDone, PutDone, Wanted, always
from kapla.storage.lending import Lent
from kapla.storage.pins import Hold
from kapla.storage.worker import all_kept, answered

__all__ = [
    "BlockAccess",
    "GetDone",
    "Marked",
    "MarkedDone",
    "PutDone",
    "Rights",
    "Statistics",
    "Wanted",
    "always",
]


@dataclass(frozen=True, slots=True)
class Rights:
    """What the peers of a listener may do, whoever they are."""

    get: bool = True
    """Read all blocks."""
    lend: bool = False
    """Read what is lent: without `get` nothing else is there for them."""
    put: bool = False
    """Add blocks."""
    stat: bool = False
    """Ask what the daemon holds."""
    admin: bool = False
    """See to the whole store, and to everybody's pins."""


@dataclass(slots=True)
class Statistics:
    """What was asked of the daemon since its start, and how many peers it has now."""

    get: int = 0
    put: int = 0
    other: int = 0
    refused: int = 0
    connections: int = 0
    open_connections: int = 0


class Marked(NamedTuple):
    """Blocks, and which of them may be given on."""

    blocks: Sequence[bytes | None]
    are_lent: Sequence[bool]


MarkedDone = Callable[[Marked | ErisError], None]


class BlockAccess:
    """The store as the peers of one listener may use it.

    Also a store in the sense of `eris.store`, for the lane that does one request at a time.
    """

    def __init__(self, storage: BatchedStorage, rights: Rights, statistics: Statistics) -> None:
        self.rights = rights
        self.storage = storage
        self.statistics = statistics

    def get_many(
        self,
        references: Sequence[Reference],
        done: GetDone,
        wanted: Wanted = always,
        group: object = None,
    ) -> None:
        """Fetch blocks of either size; `done` gets them in this order, or one error for all.

        `group`: of those who ask, where they are not all peers of this listener.
        """
        self.statistics.get += len(references)
        if not self.rights.get:
            if not self.rights.lend:
                self.statistics.refused += len(references)
                done(StoreRefused("this store gives no blocks away"))
                return
            references = Lent(references)
        self.storage.get_many(references, done, wanted, self if group is None else group)

    def get_marked(
        self,
        references: Sequence[Reference],
        done: MarkedDone,
        wanted: Wanted = always,
        group: object = None,
    ) -> None:
        """As `get_many`; `done` is told which of the blocks may be given on, too."""
        sharing = self if group is None else group

        def lent(result: Sequence[bytes | None] | ErisError) -> None:
            if isinstance(result, ErisError):
                done(result)
                return
            marked = Marked(result, [block is not None for block in result])
            if all(marked.are_lent) or not self.rights.get:
                done(marked)
            else:
                self._get_others(references, marked, done, wanted, sharing)

        if self.rights.get:
            self.statistics.get += len(references)
            self.storage.get_many(Lent(references), lent, wanted, sharing)
        else:
            self.get_many(references, lent, wanted, sharing)

    def _get_others(
        self,
        references: Sequence[Reference],
        marked: Marked,
        done: MarkedDone,
        wanted: Wanted,
        group: object,
    ) -> None:
        """Fetch those that are not lent too."""
        places = [place for place, is_lent in enumerate(marked.are_lent) if not is_lent]

        def others(result: Sequence[bytes | None] | ErisError) -> None:
            if isinstance(result, ErisError):
                done(result)
                return
            blocks = list(marked.blocks)
            for place, block in zip(places, result, strict=True):
                blocks[place] = block
            done(Marked(blocks, marked.are_lent))

        names = [references[place] for place in places]
        self.storage.get_many(names, others, wanted, group)

    def put_many(
        self,
        blocks: Sequence[bytes],
        done: PutDone,
        wanted: Wanted = always,
        hold: Hold | None = None,
        group: object = None,
    ) -> None:
        """Keep blocks, each 1024 or 32768 bytes; `hold`: of the open pin that they belong to.

        `group`: as for `get_many`.
        """
        self.statistics.put += len(blocks)
        if not self.rights.put:
            self.statistics.refused += len(blocks)
            done(StoreRefused("this store is read-only here"))
            return
        self.storage.put_many(blocks, done, wanted, self if group is None else group, hold)

    async def fetch(self, reference: Reference, wanted: Wanted = always) -> bytes:
        """Fetch a block of either size.

        Raises: BlockNotFound, StoreError.
        """
        blocks: Sequence[bytes | None] = await answered(
            lambda done, is_wanted: self.get_many([reference], done, is_wanted), wanted
        )
        block = blocks[0]
        if block is None:
            raise BlockNotFound(reference)
        return block

    async def fetch_many(
        self, references: Sequence[Reference], wanted: Wanted = always, group: object = None
    ) -> Sequence[bytes | None]:
        """Fetch blocks of either size, in this order: None for one that is not there.

        `group`: as for `get_many`. Raises: StoreError.
        """
        blocks: Sequence[bytes | None] = await answered(
            lambda done, is_wanted: self.get_many(references, done, is_wanted, group), wanted
        )
        return blocks

    async def fetch_marked(
        self, reference: Reference, wanted: Wanted = always
    ) -> tuple[bytes, bool]:
        """As `fetch`, with whether the block may be given on."""
        result: Marked = await answered(
            lambda done, is_wanted: self.get_marked([reference], done, is_wanted), wanted
        )
        block = result.blocks[0]
        if block is None:
            raise BlockNotFound(reference)
        return block, result.are_lent[0]

    async def find(
        self,
        references: Sequence[Reference],
        wanted: Wanted = always,
        hold: Hold | None = None,
        group: object = None,
    ) -> list[bool]:
        """Tell which blocks are there: see `eris.store.BlockFinder`.

        `hold`: of the open pin that those belong to which are. `group`: as for `get_many`.
        """
        group = self if group is None else group
        if self.rights.get:
            return await self._find(references, wanted, hold, group)
        if not self.rights.lend:
            self.statistics.refused += 1
            raise StoreRefused("this store gives no blocks away")
        found = await self._find(Lent(references), wanted, None, group)
        if hold is None or not any(found):
            return found
        # What is not lent must not be held either.
        lent = [name for name, is_lent in zip(references, found, strict=True) if is_lent]
        held = iter(await self._find(lent, wanted, hold, group))
        return [is_lent and next(held) for is_lent in found]

    async def _find(
        self,
        references: Sequence[Reference],
        wanted: Wanted,
        hold: Hold | None,
        group: object,
    ) -> list[bool]:
        return list(
            await answered(
                lambda done, is_wanted: self.storage.find_many(
                    references, done, is_wanted, group, hold
                ),
                wanted,
            )
        )

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block of one size: see `eris.store.BlockReader`."""
        block = await self.fetch(reference)
        if len(block) != block_size:
            raise CorruptBlock(reference, size=len(block), expected_size=int(block_size))
        return block

    async def put(
        self,
        reference: Reference,
        block: bytes,
        wanted: Wanted = always,
        hold: Hold | None = None,
    ) -> None:
        """Keep a block: see `eris.store.BlockWriter`. The reference is computed anew."""
        await self.put_all([(reference, block)], wanted, hold)

    async def put_all(
        self,
        blocks: Sequence[EncodedBlock],
        wanted: Wanted = always,
        hold: Hold | None = None,
    ) -> None:
        """Keep blocks: see `eris.store.ManyWriter`. The references are computed anew."""
        for reference, block in blocks:
            if len(block) not in (BlockSize.SMALL, BlockSize.LARGE):
                raise CorruptBlock(reference, size=len(block), expected_size=int(BlockSize.SMALL))
        if not blocks:
            return
        bare = [block for _, block in blocks]
        await all_kept(
            lambda done, is_wanted: self.put_many(bare, done, is_wanted, hold),
            wanted,
        )
