"""The sizes of the files of a tree that tells none: asked for when they are wanted, then kept.

A size costs a block a level, which is then at hand for reading: of a small file that is all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from eris.capability import ReadCapability
from eris.threads import settle
from eris_fs.reader.content import Content

__all__ = ["Sizes"]

_AT_ONCE: Final = 256
"""Contents looked at together. Each waits for one block, so that is 8 MiB at most."""


class Sizes:
    """What is known of the sizes of contents, no more of them than the tree has."""

    def __init__(self, content_of: Callable[[ReadCapability], Content]) -> None:
        self._content_of = content_of
        self._known: dict[ReadCapability, int] = {}

    def get(self, capability: ReadCapability) -> int | None:
        """The size of a content in bytes, if it is known."""
        return self._known.get(capability)

    async def find(self, capability: ReadCapability) -> int:
        """Find the size of a content.

        Raises: BlockNotFound, ContentError, StoreError.
        """
        size = self._known.get(capability)
        if size is None:
            size = self._known[capability] = await self._content_of(capability).find_size()
        return size

    async def find_all(self, capabilities: Iterable[ReadCapability]) -> None:
        """Find the sizes of many contents, some at a time.

        Raises: as `find`; whatever comes first.
        """
        lacking = [one for one in dict.fromkeys(capabilities) if one not in self._known]
        if len(lacking) == 1:
            await self.find(lacking[0])
            return
        coming = iter(lacking)
        workers = [
            asyncio.ensure_future(self._find_each(coming))
            for _ in range(min(len(lacking), _AT_ONCE))
        ]
        if not workers:
            return
        try:
            ended, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for worker in workers:
                worker.cancel()
            await settle(*workers)
        for worker in ended:
            worker.result()

    async def _find_each(self, coming: Iterator[ReadCapability]) -> None:
        for capability in coming:
            await self.find(capability)
