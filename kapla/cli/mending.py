"""What `kapla verify --repair` does: blocks that are missing or bad come from elsewhere.

From another store they are fetched as they are found. From a file or a tree they are encoded again,
first without storing anything: only if that gives the same URN are they what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import eris_fs
from eris.capability import ReadCapability
from eris.crypto import reference_of
from eris.errors import BlockNotFound, CorruptBlock
from eris.model import BlockSize, ConvergenceSecret, Reference
from eris.store import BlockReader, BlockWriter, NullStore
from eris.transfer import put_content
from kapla.cli.common import CommandError, ExitCode, progress
from kapla.cli.source import content_of, open_source, size_of
from kapla.cli.sources import Sources

__all__ = ["BLOCK_SIZES", "Again", "Mending", "encode_again"]

BLOCK_SIZES: Final = ("auto", "1KiB", "32KiB", "cost")


class Mending:
    """A store whose blocks are replaced where they are missing or bad, when they are read or put.

    `source`: where good ones come from when they are read; None: nowhere.
    """

    def __init__(self, store: BlockWriter, source: BlockReader | None = None) -> None:
        self.repaired: set[Reference] = set()
        """What was missing or bad, and is there now."""
        self._store, self._source = store, source

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block: see `eris.store.BlockReader`; from the source, if it has to be."""
        try:
            return await _sound(self._store, reference, block_size)
        except (BlockNotFound, CorruptBlock) as error:
            if self._source is None:
                raise
            try:
                good = await _sound(self._source, reference, block_size)
            except (BlockNotFound, CorruptBlock):
                raise error from None
        await self._store.put(reference, good)
        self.repaired.add(reference)
        return good

    async def put(self, reference: Reference, block: bytes) -> None:
        """Keep a block where there is not a good one."""
        try:
            await _sound(self._store, reference, BlockSize(len(block)))
        except (BlockNotFound, CorruptBlock):
            await self._store.put(reference, block)
            self.repaired.add(reference)


async def _sound(store: BlockReader, reference: Reference, block_size: BlockSize) -> bytes:
    block = await store.get(reference, block_size)
    if reference_of(block) != reference:
        raise CorruptBlock(reference)
    return block


@dataclass(frozen=True, slots=True)
class Again:
    """A file or tree, and how it was encoded."""

    sources: Sources
    rule: str | None
    packed: bool
    level: int | None
    secret: ConvergenceSecret
    selection: eris_fs.Selection

    def block_size(self, capability: ReadCapability) -> BlockSize | eris_fs.SizeRule | None:
        """The block size, or the rule for it. A file's is told by its URN."""
        if self.rule is None and not self.sources.is_tree:
            return capability.block_size
        fixed = {size.label: size for size in BlockSize}
        return eris_fs.choose_by_cost if self.rule == "cost" else fixed.get(self.rule or "auto")


async def encode_again(store: Mending, capability: ReadCapability, again: Again) -> None:
    """Put the blocks of a content where they are missing or bad.

    Raises: CommandError, if the URN would be another one: then nothing was put.
    """
    if await _encode(NullStore(), capability, again) != capability:
        raise CommandError(
            f"{again.sources.title} has another URN: it is not the same content, or was encoded in"
            " another way (--packed, --level, --block-size, --convergence-secret, --exclude)",
            ExitCode.MISSING,
        )
    await _encode(store, capability, again)


async def _encode(store: BlockWriter, capability: ReadCapability, again: Again) -> ReadCapability:
    if not (again.sources.is_tree or again.packed):
        return await _encode_file(store, capability, again)
    root = again.sources.root
    with progress(f"Encoding {again.sources.title}") as shown:
        if again.packed:
            return await eris_fs.put_packed_tree(
                store,
                root,
                level=eris_fs.DEFAULT_LEVEL if again.level is None else again.level,
                convergence_secret=again.secret,
                progress=shown.reach,
                selection=again.selection,
            )
        return await eris_fs.put_tree(
            store,
            root,
            block_size=again.block_size(capability),
            convergence_secret=again.secret,
            progress=shown.reach,
            selection=again.selection,
        )


async def _encode_file(
    store: BlockWriter, capability: ReadCapability, again: Again
) -> ReadCapability:
    path = again.sources.paths[0]
    with open_source(path) as file:
        size, block_size = size_of(file), again.block_size(capability)
        if block_size is not None and not isinstance(block_size, BlockSize):
            block_size = None if size is None else block_size(size)
        with progress(f"Encoding {path}", size) as shown:
            return await put_content(
                store,
                content_of(file, shown),
                block_size=block_size,
                convergence_secret=again.secret,
            )
