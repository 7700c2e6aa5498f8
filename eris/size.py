"""The size of a content: which block to look at next, and then the size; without I/O.

The blocks down the right edge of the tree tell it, one a level: the inner ones are full but for the
last of each level, and the last leaf tells by its padding how much of it is content.
"""

from __future__ import annotations

from eris import node
from eris.capability import ReadCapability
from eris.crypto import open_block
from eris.decode import check_node
from eris.model import Reference

__all__ = ["SizeFinder"]


class SizeFinder:
    """Find the size of one content.

    ```python
    finder = SizeFinder(capability)
    while (reference := finder.wanted) is not None:
        finder.receive(blocks[reference])
    print(finder.size)
    ```

    `wanted` is the reference of the one block to get next, None at the end; `size` is then the
    bytes of the content, and None before.
    """

    __slots__ = ("_key", "_leaves_before", "_level", "_root_level", "block_size", "size", "wanted")

    def __init__(self, capability: ReadCapability) -> None:
        self.block_size = capability.block_size
        self.size: int | None = None
        self.wanted: Reference | None
        self._key: bytes
        self.wanted, self._key = capability.root
        self._root_level = self._level = capability.level
        self._leaves_before = 0

    def receive(self, block: bytes) -> None:
        """Take the block that is wanted.

        Raises: CorruptBlock, InvalidKey, InvalidNode, InvalidPadding; ValueError, if none is
        wanted.
        """
        reference, level = self.wanted, self._level
        if reference is None:
            raise ValueError("no block is wanted")
        plain = open_block(block, reference, self._key, level, self.block_size)
        if level == 0:
            self.size = self._leaves_before * self.block_size + len(node.unpad(plain))
            self.wanted = None
            return
        is_root = level == self._root_level
        pairs = check_node(plain, reference, self._key, level, is_root=is_root, rightmost=True)
        ((self.wanted, self._key),) = node.iter_pairs(plain, pairs - 1, pairs)
        self._leaves_before += (pairs - 1) * self.block_size.arity ** (level - 1)
        self._level = level - 1
