"""Content to blocks: a value with state, fed with bytes, handing out blocks. No I/O.

Each full leaf is encrypted at once and leaves behind 64 bytes, its reference-key pair, in the list
of its level. A list that is full becomes an internal node, whose own pair goes one level up. So
memory is one partial leaf and one partial node a level, however long the content.

Zeros that nobody read, a `Hole`, cost next to nothing: all leaves of zeros in a content are equal,
and so are all nodes of nothing else, so each is made once.
"""

from __future__ import annotations

from eris import node
from eris.capability import ReadCapability
from eris.crypto import Buffer, encrypt_leaves, encrypt_node
from eris.model import (
    NULL_CONVERGENCE_SECRET,
    PAIR_SIZE,
    REFERENCE_SIZE,
    BlockSize,
    ConvergenceSecret,
    EncodedBlock,
    Hole,
    Key,
    Reference,
    ReferenceKeyPair,
    choose_block_size,
)

__all__ = ["Encoder", "encode"]


class Encoder:
    """Encode one content.

    ```python
    encoder = Encoder(BlockSize.LARGE)
    for reference, block in encoder.feed(data): ...
    for reference, block in encoder.finish(): ...
    encoder.read_capability.to_urn()
    ```

    Blocks come out in the order in which they are made: leaves in content order, an internal node
    right after its last child. Equal content gives equal blocks, which come out each time, but for
    leaves in a `Hole`: these come out once. What they become is what zeros become.
    Source: ERIS 1.0.0, "Encoding".
    """

    def __init__(
        self,
        block_size: BlockSize,
        convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
    ) -> None:
        self.block_size = block_size
        self._size = int(block_size)
        self._secret = bytes(convergence_secret)
        self._tail = bytearray()
        # For each level of nodes, the pairs that no node of the level above holds yet.
        self._levels: list[bytearray] = [bytearray()]
        # The pair of a leaf of zeros, once there was one, and from then on the node of each level
        # that was made last: what is in it, and its pair.
        self._zeros = b""
        self._last_nodes: dict[int, tuple[bytes, bytes]] = {}
        self._capability: ReadCapability | None = None

    @property
    def read_capability(self) -> ReadCapability:
        """The capability of the whole content.

        Raises: ValueError, before `finish()`.
        """
        if self._capability is None:
            raise ValueError("the content is not finished yet")
        return self._capability

    def feed(self, data: Buffer | Hole) -> list[EncodedBlock]:
        """Take the next bytes of the content, any number; returns the blocks they completed.

        Of a long hole these are few.

        Raises: ValueError, after `finish()`.
        """
        if self._capability is not None:
            raise ValueError("the content is finished already")
        if isinstance(data, Hole):
            return self._feed_hole(data)
        out: list[EncodedBlock] = []
        tail, size = self._tail, self._size
        view = memoryview(data).cast("B")
        if tail:
            missing = size - len(tail)
            tail += view[:missing]
            if len(tail) < size:
                return out
            view = view[missing:]
            self._add_leaves(memoryview(bytes(tail)), out)
            tail.clear()
        whole = len(view) - len(view) % size
        if whole:
            self._add_leaves(view[:whole], out)
        tail += view[whole:]
        return out

    def finish(self) -> list[EncodedBlock]:
        """Pad the last leaf, close the tree; returns the last blocks and fixes the capability.

        Raises: ValueError, if called twice.
        """
        if self._capability is not None:
            raise ValueError("the content is finished already")
        out: list[EncodedBlock] = []
        self._add_leaves(memoryview(node.pad(self._tail, self._size)), out)
        self._tail.clear()
        # Upwards: the one pair left on the top level is the root; a level with pairs goes into a
        # node even if it has only one; an empty level (its last node was full) is passed.
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > PAIR_SIZE:
            if self._levels[level]:
                self._close_node(level, out)
            level += 1
        pair = bytes(self._levels[level])
        self._capability = ReadCapability(
            self.block_size,
            level,
            ReferenceKeyPair(Reference(pair[:REFERENCE_SIZE]), Key(pair[REFERENCE_SIZE:])),
        )
        self._levels.clear()
        return out

    def _feed_hole(self, length: int) -> list[EncodedBlock]:
        """Take so many zeros."""
        before = min(length, -len(self._tail) % self._size)
        leaves, after = divmod(length - before, self._size)
        out = self.feed(bytes(before))
        if leaves:
            self._add_zeros(leaves, out)
        return out + self.feed(bytes(after))

    def _add_zeros(self, leaves: int, out: list[EncodedBlock]) -> None:
        """Add whole leaves of zeros, as many at a time as the open node has room for."""
        if not self._zeros:
            pair = bytearray()
            out += encrypt_leaves(memoryview(bytes(self._size)), self._size, self._secret, pair)
            self._zeros = bytes(pair)
        pairs = self._levels[0]
        while leaves:
            count = min(leaves, (self._size - len(pairs)) // PAIR_SIZE)
            pairs += self._zeros * count
            leaves -= count
            if len(pairs) == self._size:
                self._close_node(0, out)

    def _add_leaves(self, leaves: memoryview, out: list[EncodedBlock]) -> None:
        """Encrypt whole leaves, as many at a time as the open node of level 1 has room for."""
        size, pairs = self._size, self._levels[0]
        while leaves:
            room = (size - len(pairs)) // PAIR_SIZE * size
            out += encrypt_leaves(leaves[:room], size, self._secret, pairs)
            leaves = leaves[room:]
            if len(pairs) == size:
                self._close_node(0, out)

    def _close_node(self, level: int, out: list[EncodedBlock]) -> None:
        """Make the pairs of `level` a node of the level above."""
        pairs = self._levels[level]
        if level + 1 == len(self._levels):
            self._levels.append(bytearray())
        above = self._levels[level + 1]
        plain = bytes(pairs).ljust(self._size, b"\0")
        pairs.clear()
        last, pair = self._last_nodes.get(level, (b"", b""))
        if plain != last:
            reference, key, block = encrypt_node(plain, level + 1)
            out.append((reference, block))
            pair = reference + key
            if self._zeros:
                # In a long hole they are all alike.
                self._last_nodes[level] = plain, pair
        above += pair
        if len(above) == self._size:
            self._close_node(level + 1, out)


def encode(
    content: Buffer,
    *,
    block_size: BlockSize | None = None,
    convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
) -> tuple[ReadCapability, dict[Reference, bytes]]:
    """Encode bytes in memory; returns the capability and the blocks by reference.

    Without `block_size`, 1 KiB for content below 16 KiB, else 32 KiB.
    """
    encoder = Encoder(
        block_size or choose_block_size(memoryview(content).nbytes), convergence_secret
    )
    blocks = dict(encoder.feed(content))
    blocks.update(encoder.finish())
    return encoder.read_capability, blocks
