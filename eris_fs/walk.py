"""Which blocks contents are made of, found by reading as few of them as can be.

Internal nodes are fetched, and handed out with what they are; the references of leaves stand in the
nodes above them, or in capabilities, and leaves are only fetched where a length is to be found.
Memory is needed for what is under way, and to know the internal nodes again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Final, NamedTuple

from eris import node
from eris.capability import ReadCapability
from eris.crypto import open_block
from eris.decode import check_node
from eris.model import BlockSize, Reference
from eris.store import BlockReader
from eris.threads import withdraw
from eris_fs.fetch import DEFAULT_WINDOW
from eris_fs.model import PackedTree, RegularFile, Tree

__all__ = ["FoundBlock", "contents_of", "walk_contents"]

# Blocks that are handed out together, about, where none of them has to be fetched.
_RUN: Final = 1024


class FoundBlock(NamedTuple):
    """A block that a content has; `block` itself if it was fetched, and checked, on the way."""

    reference: Reference
    block_size: BlockSize
    block: bytes | None = None


def contents_of(tree: Tree) -> Iterable[ReadCapability]:
    """The contents that a tree refers to, each once: its files, or the pieces of its packs."""
    if isinstance(tree, PackedTree):
        return (piece for pack in tree.packs for piece in pack.pieces())
    files = (entry for entry in tree.values() if isinstance(entry, RegularFile))
    return dict.fromkeys(file.capability for file in files)


async def walk_contents(
    store: BlockReader,
    contents: Iterable[ReadCapability],
    lengths: dict[ReadCapability, int] | None = None,
) -> AsyncGenerator[list[FoundBlock], None]:
    """Give all blocks of plain contents, some together; what is repeated may come again.

    With `lengths` the last leaf of each content is fetched too, and its bytes are noted there.
    Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: BlockNotFound, ContentError, StoreError.
    """
    walk = _Walk(store, contents, lengths)
    try:
        while True:
            found = walk.ask()
            if found:
                yield found
            elif not walk.in_flight:
                return
            if len(found) < _RUN and walk.in_flight:
                yield await walk.receive()
    finally:
        withdraw(future for _, future in walk.in_flight)


class _Node(NamedTuple):
    """A node that is known: where it is, how to read it, where it belongs."""

    content: ReadCapability
    reference: Reference
    key: bytes
    level: int
    first_leaf: int
    rightmost: bool

    def __repr__(self) -> str:
        return f"<_Node of level {self.level}, redacted>"


class _Walk:
    """Goes through contents from their roots, many requests at a time."""

    def __init__(
        self,
        store: BlockReader,
        contents: Iterable[ReadCapability],
        lengths: dict[ReadCapability, int] | None,
    ) -> None:
        self._store = store
        self._coming = iter(contents)
        self._lengths = lengths
        # Last in, first out: what is known and not looked at stays small.
        self._pending: list[_Node] = []
        # The inner nodes that are under way or done: a few blocks can name each other as often as
        # they like, and only at the right edge does it matter where one stands.
        self._seen: set[tuple[Reference, bytes, int]] = set()
        self.in_flight: deque[tuple[_Node, asyncio.Future[bytes]]] = deque()

    def ask(self) -> list[FoundBlock]:
        """Send what requests there is room for; gives the blocks that need none."""
        found = []
        for one in self._nodes():
            size = one.content.block_size
            if one.level or (self._lengths is not None and one.rightmost):
                future = asyncio.ensure_future(self._store.get(one.reference, size))
                self.in_flight.append((one, future))
            else:
                found.append(FoundBlock(one.reference, size))
            if len(found) >= _RUN or len(self.in_flight) >= DEFAULT_WINDOW:
                break
        return found

    async def receive(self) -> list[FoundBlock]:
        """Wait for the oldest answer; gives its block, and what leaves are named in it."""
        one, future = self.in_flight[0]
        block = await future
        self.in_flight.popleft()
        size = one.content.block_size
        plain = open_block(block, one.reference, one.key, one.level, size)
        found = [FoundBlock(one.reference, size, block)]
        if one.level:
            found += self._expand(one, plain)
        elif self._lengths is not None:
            self._lengths[one.content] = one.first_leaf * size + len(node.unpad(plain))
        return found

    def _nodes(self) -> Iterator[_Node]:
        while len(self.in_flight) < DEFAULT_WINDOW:
            if self._pending:
                yield self._pending.pop()
                continue
            capability = next(self._coming, None)
            if capability is None:
                return
            reference, key = capability.root
            yield _Node(capability, reference, key, capability.level, 0, True)

    def _expand(self, parent: _Node, plain: bytes) -> Iterator[FoundBlock]:
        content, reference, key, level, first_leaf, rightmost = parent
        is_root = level == content.level
        pairs = check_node(plain, reference, key, level, is_root=is_root, rightmost=rightmost)
        below = content.block_size.arity ** (level - 1)
        for place, (reference, key) in enumerate(node.iter_pairs(plain, 0, pairs)):
            if rightmost and place == pairs - 1:
                first = first_leaf + place * below
                self._pending.append(_Node(content, reference, key, level - 1, first, True))
            elif level == 1:
                yield FoundBlock(reference, content.block_size)
            elif (reference, key, level) not in self._seen:
                self._seen.add((reference, key, level))
                self._pending.append(_Node(content, reference, key, level - 1, 0, False))
