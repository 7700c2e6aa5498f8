"""The leaves of a content as a row, found by inner nodes that are kept.

The inner nodes above a range of leaves are fetched level by level, those of a level at once, and
kept apart from what is read: 32 KiB of them find 16 MiB of leaves. So a read at random takes one
round trip and one block, once its part of the tree was visited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from eris import node
from eris.capability import ReadCapability
from eris.crypto import open_block
from eris.decode import check_node
from eris.model import Reference
from eris.store import BlockReader
from eris.threads import withdraw
from eris_fs.reader.rows import SPAN_SIZE, AtHand
from eris_fs.reader.shared import Claim, Shared, Start

__all__ = ["Leaves", "Node", "node_size"]


class Node(NamedTuple):
    """A checked inner node: its pairs, how many, and whether it is the last of its level."""

    plain: bytes
    pairs: int
    rightmost: bool

    def __repr__(self) -> str:
        return f"<Node of {self.pairs} pairs, redacted>"


class _Place(NamedTuple):
    """A node that is known: its number on its level, where it is, how to read it."""

    number: int
    reference: Reference
    key: bytes
    rightmost: bool

    def __repr__(self) -> str:
        return f"<_Place {self.number}, redacted>"


def node_size(found: Node) -> int:
    """The bytes of a node."""
    return len(found.plain)


class Leaves:
    """The row of a content's leaves; its inner nodes are kept in `nodes`, together with others'."""

    def __init__(self, store: BlockReader, capability: ReadCapability, nodes: Shared[Node]) -> None:
        self._store = store
        self._nodes = nodes
        self._block_size = capability.block_size
        self._arity = capability.block_size.arity
        self._level = capability.level
        self._root = _Place(0, *capability.root, True)
        self.key = capability.to_bytes()
        self.unit = int(capability.block_size)
        most = self._arity**capability.level
        self.span = min(SPAN_SIZE // self.unit, most)
        self.limit = most * self.unit

    def start(self, first: int, count: int, at_hand: AtHand) -> Start[bytes]:
        """Begin to fetch leaves: see `Row`."""
        place = self._leaf(first) if count == 1 else None
        if place is not None:
            # The most common case of all, and no task is needed for it.
            block = asyncio.ensure_future(self._store.get(place.reference, self._block_size))
            return block, partial(self._open, place)
        return asyncio.ensure_future(self._load(first, first + count, at_hand)), _as_it_is

    async def last(self) -> int:
        """Find the number of the last leaf.

        Raises: BlockNotFound, ContentError, StoreError.
        """
        place = self._root
        for level in range(self._level, 0, -1):
            found = await self._nodes.take(
                (self.key, level, place.number), partial(self._start_node, level, place)
            )
            self._note(level, place.number, found)
            (place,) = self._children(place.number, found, range(found.pairs - 1, found.pairs))
        return place.number

    async def breadth(self) -> int:
        """Find how many leaves there may be, by the root alone: of one level there are as many.

        Of more levels it is how many there are if all inner nodes are full.
        Raises: BlockNotFound, ContentError, StoreError.
        """
        if self._level == 0:
            return 1
        (root,) = await self._visit(self._level, [self._root])
        below: int = self._arity ** (self._level - 1)
        return root.pairs * below

    async def _load(self, first: int, stop: int, at_hand: AtHand) -> bytes:
        places = await self._find(first, stop)
        there = {place.number: at_hand(place.number) for place in places}
        asked: deque[asyncio.Future[bytes]] = deque()
        contents = []
        try:
            for place in places:
                if there[place.number] is None:
                    block = self._store.get(place.reference, self._block_size)
                    asked.append(asyncio.ensure_future(block))
            for place in places:
                content = there[place.number]
                if content is None:
                    # Awaited where it stands, so that an interruption finds it in the queue.
                    content = self._open(place, await asked[0])
                    asked.popleft()
                contents.append(content)
            return b"".join(contents)
        finally:
            withdraw(asked)

    def _open(self, place: _Place, block: bytes) -> bytes:
        plain = open_block(block, place.reference, place.key, 0, self.unit)
        return node.unpad(plain) if place.rightmost else plain

    def _leaf(self, number: int) -> _Place | None:
        """One leaf, if the node right above it is at hand."""
        if self._level == 0:
            return self._root if number == 0 else None
        above, place = divmod(number, self._arity)
        found = self._nodes.kept.get((self.key, 1, above))
        if found is None or place >= found.pairs:
            return None
        ((reference, key),) = node.iter_pairs(found.plain, place, place + 1)
        return _Place(number, reference, key, found.rightmost and place == found.pairs - 1)

    def _known(self, first: int, stop: int) -> list[_Place] | None:
        """The leaves of a range, if the nodes right above them are at hand."""
        if self._level == 0:
            return [self._root] if first == 0 else []
        places: list[_Place] = []
        for number in range(first // self._arity, -(-stop // self._arity)):
            found = self._nodes.kept.get((self.key, 1, number))
            if found is None:
                return None
            places += self._children(number, found, self._within(number, found, first, stop, 1))
            self._note(1, number, found)
            if found.rightmost:
                break
        return places

    async def _find(self, first: int, stop: int) -> list[_Place]:
        """The leaves of a range, as far as there are some."""
        known = self._known(first, stop)
        if known is not None:
            return known
        places = [self._root]
        for level in range(self._level, 0, -1):
            below = self._arity ** (level - 1)
            nodes = await self._visit(level, places)
            places = [
                child
                for place, found in zip(places, nodes, strict=True)
                for child in self._children(
                    place.number, found, self._within(place.number, found, first, stop, below)
                )
            ]
        return places

    async def _visit(self, level: int, places: Iterable[_Place]) -> list[Node]:
        """The nodes at some places of one level, those that are not at hand fetched at once."""
        claims: deque[tuple[_Place, Claim[Node]]] = deque()
        nodes: list[Node] = []
        try:
            for place in places:
                start = partial(self._start_node, level, place)
                claims.append((place, self._nodes.claim((self.key, level, place.number), start)))
            for place, claim in claims:
                nodes.append(await claim.future)
                self._note(level, place.number, nodes[-1])
        finally:
            for _, claim in claims:
                claim.release()
        return nodes

    def _start_node(self, level: int, place: _Place) -> Start[Node]:
        block = asyncio.ensure_future(self._store.get(place.reference, self._block_size))
        return block, partial(self._open_node, level, place)

    def _open_node(self, level: int, place: _Place, block: bytes) -> Node:
        _, reference, key, rightmost = place
        plain = open_block(block, reference, key, level, self.unit)
        is_root = level == self._level
        pairs = check_node(plain, reference, key, level, is_root=is_root, rightmost=rightmost)
        return Node(plain, pairs, rightmost)

    def _note(self, level: int, number: int, found: Node) -> None:
        """The node at the right edge tells how many leaves there are."""
        if found.rightmost:
            children = number * self._arity + found.pairs
            self.limit = min(self.limit, children * self._arity ** (level - 1) * self.unit)

    def _within(self, number: int, found: Node, first: int, stop: int, below: int) -> range:
        """Which pairs of a node are above leaves of a range; `below` leaves are under each."""
        before = number * self._arity
        return range(max(0, first // below - before), min(found.pairs, -(-stop // below) - before))

    def _children(self, number: int, found: Node, which: range) -> list[_Place]:
        before = number * self._arity
        last = found.pairs - 1 if found.rightmost else -1
        pairs = node.iter_pairs(found.plain, which.start, max(which.start, which.stop))
        return [
            _Place(before + place, reference, key, place == last)
            for place, (reference, key) in zip(which, pairs, strict=True)
        ]


def _as_it_is(value: bytes) -> bytes:
    return value
