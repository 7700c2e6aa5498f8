"""What trees are made of: their blocks, each counted once, and the bytes they stand for.

Only internal nodes are fetched, and the last leaf of each content whose length is nowhere stated;
the references of all other leaves stand in the nodes above them, or in capabilities.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from eris import node
from eris.capability import ReadCapability
from eris.crypto import open_block
from eris.decode import check_node
from eris.model import BlockSize, Reference
from eris.store import BlockReader
from eris.threads import withdraw
from eris_fs.fetch import DEFAULT_WINDOW
from eris_fs.model import PackedFile, PackedTree, RegularFile, Tree

__all__ = ["Survey", "survey_content", "survey_tree"]


@dataclass(slots=True)
class Survey:
    """The distinct blocks of something, and how many bytes of content it has.

    Of a tree these are the bytes of its files, those of equal content each time.
    """

    raw_bytes: int = 0
    references: dict[BlockSize, set[Reference]] = field(
        default_factory=lambda: {size: set() for size in BlockSize}
    )

    @property
    def blocks(self) -> int:
        """How many distinct blocks."""
        return sum(map(len, self.references.values()))

    @property
    def block_bytes(self) -> int:
        """The bytes of them."""
        return sum(size * len(references) for size, references in self.references.items())

    def without(self, other: Survey) -> Survey:
        """The blocks that another one does not have."""
        mine, others = self.references, other.references
        return Survey(self.raw_bytes, {size: mine[size] - others[size] for size in mine})


async def survey_content(store: BlockReader, capability: ReadCapability) -> Survey:
    """Survey a plain content.

    Raises: BlockNotFound, ContentError, StoreError.
    """
    found = Survey()
    walk = _Walk(store, found)
    lengths = await walk.run([capability], measure=True)
    found.raw_bytes = lengths[capability]
    return found


async def survey_tree(store: BlockReader, capability: ReadCapability, tree: Tree) -> Survey:
    """Survey a tree that was loaded, its index included.

    Raises: BlockNotFound, ContentError, StoreError.
    """
    found = Survey()
    walk = _Walk(store, found)
    await walk.run([capability], measure=False)
    if isinstance(tree, PackedTree):
        await walk.run((piece for pack in tree.packs for piece in pack.pieces()), measure=False)
        files = (entry for entry in tree.values() if isinstance(entry, PackedFile))
        found.raw_bytes = sum(file.size for file in files)
        return found
    times = Counter(entry.capability for entry in tree.values() if isinstance(entry, RegularFile))
    lengths = await walk.run(times, measure=True)
    found.raw_bytes = sum(length * times[one] for one, length in lengths.items())
    return found


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

    def __init__(self, store: BlockReader, found: Survey) -> None:
        self._store = store
        self._found = found
        # Last in, first out: what is known and not looked at stays small.
        self._pending: list[_Node] = []
        # The inner nodes that are under way or done: a few blocks can name each other as often as
        # they like, and only at the right edge does it matter where one stands.
        self._seen: set[tuple[Reference, bytes, int]] = set()
        self._in_flight: deque[tuple[_Node, asyncio.Future[bytes]]] = deque()

    async def run(
        self, capabilities: Iterable[ReadCapability], *, measure: bool
    ) -> dict[ReadCapability, int]:
        """Note all blocks of these contents; returns their lengths if they are to be measured."""
        lengths: dict[ReadCapability, int] = {}
        coming = iter(capabilities)
        try:
            while True:
                self._ask(coming, measure)
                if not self._in_flight:
                    return lengths
                found, future = self._in_flight[0]
                block = await future
                self._in_flight.popleft()
                size = found.content.block_size
                plain = open_block(block, found.reference, found.key, found.level, size)
                if found.level:
                    self._expand(found, plain)
                else:
                    lengths[found.content] = found.first_leaf * size + len(node.unpad(plain))
        finally:
            withdraw(future for _, future in self._in_flight)
            self._in_flight.clear()

    def _ask(self, coming: Iterable[ReadCapability], measure: bool) -> None:
        for found in self._nodes(coming):
            size = found.content.block_size
            self._found.references[size].add(found.reference)
            if found.level or (measure and found.rightmost):
                future = asyncio.ensure_future(self._store.get(found.reference, size))
                self._in_flight.append((found, future))

    def _nodes(self, coming: Iterable[ReadCapability]) -> Iterable[_Node]:
        while len(self._in_flight) < DEFAULT_WINDOW:
            if self._pending:
                yield self._pending.pop()
                continue
            capability = next(iter(coming), None)
            if capability is None:
                return
            reference, key = capability.root
            yield _Node(capability, reference, key, capability.level, 0, True)

    def _expand(self, parent: _Node, plain: bytes) -> None:
        content, reference, key, level, first_leaf, rightmost = parent
        is_root = level == content.level
        pairs = check_node(plain, reference, key, level, is_root=is_root, rightmost=rightmost)
        below = content.block_size.arity ** (level - 1)
        leaves = self._found.references[content.block_size]
        for place, (reference, key) in enumerate(node.iter_pairs(plain, 0, pairs)):
            if rightmost and place == pairs - 1:
                first = first_leaf + place * below
                self._pending.append(_Node(content, reference, key, level - 1, first, True))
            elif level == 1:
                leaves.add(reference)
            elif (reference, key, level) not in self._seen:
                self._seen.add((reference, key, level))
                self._pending.append(_Node(content, reference, key, level - 1, 0, False))
