"""Blocks to content: a value with state that says what it wants and checks what it is given.

The tree is walked one level at a time, all levels at once: each level has a queue of pairs that
are known but not asked for. A node is asked for as soon as the level below runs low, so that a
caller with a window of requests in flight never waits for an internal node in the middle. Answers
are taken in the order of the questions, so leaves come out as content, in order, unbuffered.

Memory: at each level at most the look-ahead plus one node's pairs, whatever the content's length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from eris import node
from eris.capability import ReadCapability
from eris.crypto import content_key, open_block
from eris.errors import BlockNotFound, InvalidKey, InvalidNode
from eris.model import PAIR_SIZE, Reference

__all__ = ["DEFAULT_LOOKAHEAD", "Decoder", "check_node", "decode"]

DEFAULT_LOOKAHEAD: Final = 64


_Wanted = tuple[Reference, bytes, int, int, bool]
"""A node that is known but not received: where it is, how to read it, where it belongs.

Reference, key, level, first leaf under it, rightmost of its level. A bare tuple, as one is made for
every block.
"""


# Stands for the queues that were not needed so far: a hostile content names 255 levels, and a new
# deque has room for 64 items. Nothing can be put into it.
_NOTHING: Final[deque[_Wanted]] = deque(maxlen=0)


def check_node(
    plain: bytes,
    reference: bytes,
    key: bytes,
    level: int,
    *,
    is_root: bool,
    rightmost: bool,
) -> int:
    """Check a decrypted internal node; returns how many pairs it holds.

    The standard demands the key check for the root only; it holds for every node of valid content
    and is made everywhere. Likewise the shape: an encoder fills every node but the rightmost of
    each level, and a root holds two pairs at least. Without this a tree could mean one content
    when read from the start and another when read by offset.
    Raises: InvalidKey, InvalidNode.
    """
    if content_key(plain) != key:
        raise InvalidKey(reference, level)
    pairs = node.count_pairs(plain)
    if not rightmost and pairs * PAIR_SIZE != len(plain):
        raise InvalidNode("it is not full, and not the last of its level")
    if is_root and pairs == 1:
        raise InvalidNode("the root holds a single pair")
    return pairs


class Decoder:
    """Decode one content, or the part of it from byte `start` up to `stop`.

    ```python
    decoder = Decoder(capability)
    while wanted := decoder.wanted():
        content = decoder.receive(blocks[wanted[0]])
    ```

    `wanted(limit)` hands out references, each once; `receive(block)` takes the block of the oldest
    reference handed out and not answered. A caller with many requests in flight asks for as many as
    it likes and answers them in that order. `lookahead` is how many leaves should be known ahead of
    the last one handed out: the caller's window. A range beyond the end of the content is cut off.
    """

    def __init__(
        self,
        capability: ReadCapability,
        *,
        start: int = 0,
        stop: int | None = None,
        lookahead: int = DEFAULT_LOOKAHEAD,
    ) -> None:
        if start < 0 or (stop is not None and stop < start):
            raise ValueError(f"not a range of bytes: {start} to {stop}")
        size = int(capability.block_size)
        self.block_size = capability.block_size
        self._size = size
        self._arity = capability.block_size.arity
        self._root_level = capability.level
        self._start, self._stop = start, stop
        self._first_leaf = start // size
        self._leaf_stop = None if stop is None else -(-stop // size)
        # _runway[k]: pairs of level k known, or coming with nodes already asked for.
        # _targets[k]: below how many of them another node of level k + 1 is asked for.
        self._known: list[deque[_Wanted]] = [_NOTHING] * (capability.level + 1)
        self._runway = [0] * (capability.level + 1)
        self._targets = [lookahead]
        while len(self._targets) <= capability.level:
            self._targets.append(self._targets[-1] // self._arity)
        self._asked: deque[_Wanted] = deque()
        # A leaf that comes again next, as in long runs of zeros: its block, its pair, what it is.
        self._again: tuple[bytes, bytes, bytes, bytes] | None = None
        # The leaves that a range may cut into.
        self._cut_leaves = {self._first_leaf} if start else set()
        if self._leaf_stop is not None:
            self._cut_leaves.add(self._leaf_stop - 1)
        # Nothing is wanted of a tree that is too small to reach the range.
        if (stop is None or stop > start) and self._first_leaf < self._arity**capability.level:
            reference, key = capability.root
            self._known[-1] = deque([(reference, key, capability.level, 0, True)])
            self._runway[-1] = 1

    @property
    def done(self) -> bool:
        """Whether everything was received."""
        return not self._asked and not any(self._known)

    @property
    def known(self) -> int:
        """How many references are known and not handed out; what lies under them is not counted."""
        return sum(map(len, self._known))

    def wanted(self, limit: int = 1, *, leaves_only: bool = False) -> list[Reference]:
        """Hand out up to `limit` more references.

        Empty when all is handed out, or when what comes next is not known before an answer. With
        `leaves_only` internal nodes are not handed out, whose answers would make more known.
        """
        handed: list[Reference] = []
        known, runway, asked = self._known, self._runway, self._asked
        while len(handed) < limit:
            level = 0 if leaves_only else self._choose_level()
            queue = known[level]
            if not queue:
                break
            # Leaves go in runs: how many until the choice may fall differently.
            run = 1
            if level == 0:
                run = min(limit - len(handed), len(queue), max(1, runway[0] - self._targets[0]))
            items = [queue.popleft() for _ in range(run)]
            asked.extend(items)
            handed.extend([item[0] for item in items])
            runway[level] -= run
            if level:
                runway[level - 1] += self._arity
        return handed

    def receive(self, block: bytes) -> bytes:
        """Take the block of the oldest unanswered reference; returns the content it completes.

        Internal nodes complete none. After an error the decoder stands as if the block, and what
        lies under it, were not part of the content: a verifier can go on.
        Raises: CorruptBlock, InvalidKey, InvalidNode, InvalidPadding; ValueError, if nothing was
        asked for.
        """
        item = reference, key, level, first_leaf, rightmost = self._take()
        again, self._again = self._again, None
        if again is not None and again[0] is block and again[1:3] == (reference, key):
            plain = again[3]
        else:
            plain = open_block(block, reference, key, level, self._size)
        if level:
            self._expand(item, plain)
            return b""
        if self._asked and self._asked[0][:3] == (reference, key, 0) and type(block) is bytes:
            self._again = block, reference, key, plain
        if rightmost:
            plain = node.unpad(plain)
        if first_leaf in self._cut_leaves:
            return self._trim(plain, first_leaf * self._size)
        return plain

    def skip(self) -> Reference:
        """Give up the oldest unanswered reference; returns it. What lies under it is left out.

        Raises: ValueError, if nothing was asked for.
        """
        return self._take()[0]

    def _take(self) -> _Wanted:
        if not self._asked:
            raise ValueError("no block was asked for")
        item = self._asked.popleft()
        level = item[2]
        if level:
            # What was expected of this node is counted anew if and when it is expanded.
            self._runway[level - 1] -= self._arity
        return item

    def _choose_level(self) -> int:
        """The level to ask next: the highest one whose children run low, else the leaves."""
        known, runway, targets = self._known, self._runway, self._targets
        for level in range(self._root_level, 0, -1):
            if runway[level - 1] <= targets[level - 1] and known[level]:
                return level
        return 0

    def _expand(self, item: _Wanted, plain: bytes) -> None:
        """Put the pairs of a decrypted node, those in the range, on the level below."""
        reference, key, level, first_leaf, rightmost = item
        is_root = level == self._root_level
        pairs = check_node(plain, reference, key, level, is_root=is_root, rightmost=rightmost)
        below = level - 1
        span = self._arity**below
        first = max(0, (self._first_leaf - first_leaf) // span)
        last = pairs
        if self._leaf_stop is not None:
            last = min(pairs, -(-(self._leaf_stop - first_leaf) // span))
        if first >= last:
            return
        leaves = range(first_leaf + first * span, first_leaf + last * span, span)
        queue = self._known[below]
        if queue is _NOTHING:
            queue = self._known[below] = deque()
        found = zip(node.iter_pairs(plain, first, last), leaves, strict=True)
        queue.extend([(reference, key, below, leaf, False) for (reference, key), leaf in found])
        if rightmost and last == pairs:
            reference, key, *_ = queue.pop()
            queue.append((reference, key, below, leaves[-1], True))
        self._runway[below] += last - first

    def _trim(self, content: bytes, offset: int) -> bytes:
        stop = len(content) if self._stop is None else max(0, self._stop - offset)
        return content[max(0, self._start - offset) : stop]


def decode(capability: ReadCapability, blocks: Mapping[Reference, bytes]) -> bytes:
    """Decode content whose blocks are at hand; returns all of it.

    Raises: BlockNotFound, ContentError.
    """
    decoder = Decoder(capability)
    pieces = []
    while wanted := decoder.wanted(DEFAULT_LOOKAHEAD):
        for reference in wanted:
            block = blocks.get(reference)
            if block is None:
                raise BlockNotFound(reference)
            pieces.append(decoder.receive(block))
    return b"".join(pieces)
