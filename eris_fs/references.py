"""Going through contents for the references of all their blocks, whatever of them is missing.

Only internal nodes are fetched: the references of leaves stand in the nodes above them. References
come out in batches, and no more is fetched while whoever takes them is busy. An internal node is
looked into once, however often it is named; a leaf comes out each time. What lies under a node that
is missing cannot be known: such nodes are counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Final, NamedTuple

from eris import node
from eris.capability import ReadCapability
from eris.crypto import open_block
from eris.decode import check_node
from eris.errors import BlockNotFound
from eris.model import BlockSize, Reference
from eris.store import BlockReader
from eris.threads import withdraw
from eris.transfer import read_content, stream_content
from eris_fs.delta.framing import looks_like_delta
from eris_fs.errors import InvalidManifest
from eris_fs.fetch import DEFAULT_WINDOW
from eris_fs.manifest import looks_like_tree
from eris_fs.model import Tree
from eris_fs.tree import read_tree
from eris_fs.walk import contents_of

__all__ = ["FoundReferences", "ReferenceWalk"]

_BATCH: Final = 8 * 1024
"""References given out at a time, or some more: as many as fit eight requests to a store."""
_HEAD: Final = 32


class FoundReferences:
    """References in the order in which they were found, each with the size of its block.

    Lists of the same length: pairs would be as many objects again.
    """

    __slots__ = ("levels", "references", "sizes")

    def __init__(self) -> None:
        self.references: list[Reference] = []
        self.sizes: list[BlockSize] = []
        self.levels = bytearray()
        """Where they stand: leaves at 0."""

    def add(self, references: Sequence[Reference], size: BlockSize, level: int = 0) -> None:
        """Put these behind the others; all of their blocks have this size, and this level."""
        self.references += references
        self.sizes += [size] * len(references)
        self.levels += bytes((level,)) * len(references)

    def __len__(self) -> int:
        return len(self.references)

    def __iter__(self) -> Iterator[tuple[Reference, BlockSize]]:
        return zip(self.references, self.sizes, strict=True)


class _Node(NamedTuple):
    """An internal node that is known: which it is, and how to read it."""

    reference: Reference
    key: bytes
    level: int
    size: BlockSize
    is_root: bool
    rightmost: bool

    def __repr__(self) -> str:
        return f"<_Node of level {self.level}, redacted>"


class ReferenceWalk:
    """Goes through contents from their roots, many requests at a time."""

    def __init__(self, store: BlockReader) -> None:
        self.unknown = 0
        """Internal nodes, and indexes of trees, that are missing: nobody knows what is below."""
        self.tree: Tree | None = None
        """The tree that the content is, once its index was read."""
        self.is_delta = False
        """Whether the content is a delta, once its first block was read."""
        self._store = store
        self._found = FoundReferences()
        # Last in, first out: what is known and not looked at stays small.
        self._pending: list[_Node] = []
        self._seen: set[tuple[Reference, bytes, int, bool]] = set()
        self._in_flight: deque[tuple[_Node, asyncio.Future[bytes]]] = deque()

    async def content(self, capability: ReadCapability) -> AsyncGenerator[FoundReferences, None]:
        """All references of a content; if it is a tree, those of its files too, index first.

        Close the generator (`contextlib.aclosing`) if it is not read to its end.
        Raises: ContentError, StoreError.
        """
        async with aclosing(self._go((capability,))) as batches:
            async for batch in batches:
                yield batch
        async with aclosing(self._go(await self._files(capability))) as batches:
            async for batch in batches:
                yield batch

    async def _files(self, capability: ReadCapability) -> Iterable[ReadCapability]:
        """The contents that a tree is made of; none if this is something else."""
        try:
            head = await read_content(self._store, capability, 0, _HEAD)
            self.is_delta = looks_like_delta(head)
            if self.is_delta or not looks_like_tree(head):
                return ()
            async with aclosing(stream_content(self._store, capability)) as pieces:
                tree = await read_tree(pieces)
        except BlockNotFound:
            self.unknown += 1
            return ()
        except InvalidManifest:
            # It begins as a tree does and is none: a file like others.
            return ()
        self.tree = tree
        return contents_of(tree)

    async def _go(
        self, capabilities: Iterable[ReadCapability]
    ) -> AsyncGenerator[FoundReferences, None]:
        coming = iter(capabilities)
        try:
            while True:
                self._ask(coming)
                if len(self._found) >= _BATCH or (self._found and not self._in_flight):
                    batch, self._found = self._found, FoundReferences()
                    yield batch
                elif self._in_flight:
                    await self._take()
                else:
                    return
        finally:
            withdraw(future for _, future in self._in_flight)
            self._in_flight.clear()

    def _ask(self, coming: Iterator[ReadCapability]) -> None:
        """Have as much under way as there may be; leaves need no request."""
        while len(self._in_flight) < DEFAULT_WINDOW and len(self._found) < _BATCH:
            if self._pending:
                found = self._pending.pop()
                future = asyncio.ensure_future(self._store.get(found.reference, found.size))
                self._in_flight.append((found, future))
                continue
            capability = next(coming, None)
            if capability is None:
                return
            self._begin(capability)

    def _begin(self, capability: ReadCapability) -> None:
        reference, key = capability.root
        if capability.level:
            self._note(_Node(reference, key, capability.level, capability.block_size, True, True))
        else:
            self._found.add((reference,), capability.block_size)

    def _note(self, found: _Node) -> None:
        mark = (found.reference, found.key, found.level, found.rightmost)
        if mark not in self._seen:
            self._seen.add(mark)
            self._pending.append(found)

    async def _take(self) -> None:
        (reference, key, level, size, is_root, rightmost), future = self._in_flight[0]
        block = None
        with suppress(BlockNotFound):
            block = await future
        self._in_flight.popleft()
        # Not before: so it comes out beside its leaves, as it has come into most stores.
        self._found.add((reference,), size, level)
        if block is None:
            self.unknown += 1
            return
        plain = open_block(block, reference, key, level, size)
        pairs = check_node(plain, reference, key, level, is_root=is_root, rightmost=rightmost)
        if level == 1:
            self._found.add(node.references_in(plain, pairs), size)
            return
        for place, (below, its_key) in enumerate(node.iter_pairs(plain, 0, pairs), 1):
            self._note(_Node(below, its_key, level - 1, size, False, rightmost and place == pairs))
