"""Looking at content: whether it is a file, a tree or a delta, and which tree."""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import aclosing
from enum import Enum, auto
from typing import Final

import eris_fs
from eris.capability import ReadCapability
from eris.store import BlockReader
from eris.transfer import read_content, stream_content
from kapla.cli.common import CommandError, ExitCode

__all__ = [
    "IS_A_DELTA",
    "Kind",
    "kind_of",
    "kind_of_head",
    "load_tree",
    "read_tree",
    "require_tree",
]

_HEAD: Final = 32

IS_A_DELTA: Final = (
    "this is a delta, which makes a tree out of another one: kapla decode DELTA OUT --base BASE"
)
"""What to say where a tree or a file is wanted."""


class Kind(Enum):
    """What a content is, by how it begins."""

    FILE = auto()
    TREE = auto()
    DELTA = auto()


def kind_of_head(head: bytes) -> Kind:
    """Tell from the first bytes of a content, at least 20 unless it has fewer."""
    from eris_fs.delta.framing import looks_like_delta

    if looks_like_delta(head):
        return Kind.DELTA
    return Kind.TREE if eris_fs.looks_like_tree(head) else Kind.FILE


async def kind_of(store: BlockReader, capability: ReadCapability) -> Kind:
    """The same, of a content in a store."""
    return kind_of_head(await read_content(store, capability, 0, _HEAD))


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
    match await kind_of(store, capability):
        case Kind.FILE:
            raise CommandError("this is a file, not a tree", ExitCode.USAGE)
        case Kind.DELTA:
            raise CommandError(IS_A_DELTA, ExitCode.USAGE)
        case Kind.TREE:
            return await load_tree(store, capability)
