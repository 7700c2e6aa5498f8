"""Looking at content: whether it is a tree, and which."""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import aclosing

import eris_fs
from eris.capability import ReadCapability
from eris.store import BlockReader
from eris.transfer import read_content, stream_content
from kapla.cli.common import CommandError, ExitCode

__all__ = ["load_tree", "names_tree", "read_tree", "require_tree"]

_HEAD = 16


async def names_tree(store: BlockReader, capability: ReadCapability) -> bool:
    """Whether the content begins as the index of a tree does, of either format."""
    return eris_fs.looks_like_tree(await read_content(store, capability, 0, _HEAD))


async def load_tree(store: BlockReader, capability: ReadCapability) -> eris_fs.Tree:
    """Read the index of a tree.

    Raises: CommandError, which names the way out for content that only looks like one.
    """
    async with aclosing(stream_content(store, capability)) as pieces:
        return await read_tree(pieces)


async def read_tree(pieces: AsyncIterable[bytes]) -> eris_fs.Tree:
    """The same, from the bytes of the index."""
    try:
        return await eris_fs.read_tree(pieces)
    except eris_fs.InvalidManifest as error:
        raise CommandError(
            f"this looks like a tree, but {error}; --raw decodes it as a file",
            ExitCode.DAMAGED,
        ) from error


async def require_tree(store: BlockReader, capability: ReadCapability) -> eris_fs.Tree:
    """Read the index of what must be a tree."""
    if not await names_tree(store, capability):
        raise CommandError("this is a file, not a tree", ExitCode.USAGE)
    return await load_tree(store, capability)
