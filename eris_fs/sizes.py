"""The sizes of files of a tree of either kind, many at a time.

A packed tree has them in its index. Of an ERIS-FS 1 tree they are learnt from the right edges of
the contents, a block a level; what is missing or damaged there does not stop the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, ContentError
from eris.size import SizeFinder
from eris.store import BlockReader
from eris.threads import withdraw
from eris_fs.model import PackedFile, Path, RegularFile, Tree

__all__ = ["FoundSizes", "find_sizes"]

_WINDOW: Final = 512
"""Contents that are looked at together, a request each: 16 MiB of blocks at most."""


class FoundSizes(NamedTuple):
    """Sizes in bytes, by path, and what is wrong with the contents that have none."""

    sizes: dict[Path, int]
    failures: dict[Path, BlockNotFound | ContentError]


async def find_sizes(store: BlockReader, tree: Tree, paths: Iterable[Path]) -> FoundSizes:
    """Find the sizes of these files; paths of what is no file are passed over.

    Raises: StoreError.
    """
    found = FoundSizes({}, {})
    contents: dict[ReadCapability, list[Path]] = {}
    for path in paths:
        entry = tree.get(path)
        if isinstance(entry, PackedFile):
            found.sizes[path] = entry.size
        elif isinstance(entry, RegularFile):
            contents.setdefault(entry.capability, []).append(path)
    for capability, outcome in (await _content_sizes(store, contents)).items():
        for path in contents[capability]:
            if isinstance(outcome, int):
                found.sizes[path] = outcome
            else:
                found.failures[path] = outcome
    return found


_Outcome = int | BlockNotFound | ContentError


async def _content_sizes(
    store: BlockReader, contents: Iterable[ReadCapability]
) -> dict[ReadCapability, _Outcome]:
    outcomes: dict[ReadCapability, _Outcome] = {}
    coming = iter(contents)
    under_way: deque[tuple[ReadCapability, SizeFinder, asyncio.Future[bytes]]] = deque()

    def ask(capability: ReadCapability, finder: SizeFinder) -> None:
        assert finder.wanted is not None
        future = asyncio.ensure_future(store.get(finder.wanted, finder.block_size))
        under_way.append((capability, finder, future))

    try:
        while True:
            while len(under_way) < _WINDOW and (capability := next(coming, None)) is not None:
                ask(capability, SizeFinder(capability))
            if not under_way:
                return outcomes
            # Awaited where it stands, so that an interruption finds it in the queue.
            capability, finder, future = under_way[0]
            outcome = await _step(finder, future)
            under_way.popleft()
            if outcome is None:
                ask(capability, finder)
            else:
                outcomes[capability] = outcome
    finally:
        withdraw(future for _, _, future in under_way)


async def _step(finder: SizeFinder, future: asyncio.Future[bytes]) -> _Outcome | None:
    """Take one block; the size, or what is wrong, or None if there is more to look at."""
    try:
        finder.receive(await future)
    except (BlockNotFound, ContentError) as error:
        return error
    return finder.size
