"""Files out of packs: in any order, with packs loaded ahead and decompressed in worker threads.

All pieces of all packs that will be needed are one long row of contents for `fetch_files`, out of
one window of requests. What arrives is put together and decompressed while more arrives, some packs
at a time; the files that lie in a pack are cut out of it when their turn comes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Final

from eris.ahead import run_ahead
from eris.capability import ReadCapability
from eris.store import BlockReader
from eris.threads import in_thread, settle
from eris_fs.errors import InvalidPack
from eris_fs.fetch import DEFAULT_WINDOW, FilePiece, fetch_files
from eris_fs.model import Pack, PackedFile, PackedTree, Path
from eris_fs.packed.cost import MAX_PACK_SIZE, piece_lengths
from eris_fs.packed.frame import InvalidFrame, decompress
from eris_fs.packed.plan import Load, plan_loads, slices_of

__all__ = ["DEFAULT_ROOM", "packs_of", "read_pack", "read_packed_files"]

DEFAULT_ROOM: Final = 16 * 1024 * 1024
"""Bytes of packs that are kept in case they are wanted again. Beside it some are on their way."""

# What is decompressed in one call of a thread, or given out at once, and how many calls are ahead
# of their turn.
_STEP: Final = 1024 * 1024
_STEPS_AHEAD: Final = 1


def _open_pack(number: int, pack: Pack, stored: bytes) -> bytes:
    """Give the content of a pack from what is stored of it.

    Raises: InvalidPack.
    """
    if pack.stored_size == pack.size:
        return stored
    try:
        return decompress(stored, pack.size, MAX_PACK_SIZE)
    except InvalidFrame as error:
        raise InvalidPack(number, str(error)) from error


async def read_packed_files(
    store: BlockReader,
    tree: PackedTree,
    paths: Iterable[Path],
    *,
    window: int = DEFAULT_WINDOW,
    room: int = DEFAULT_ROOM,
) -> AsyncGenerator[FilePiece, None]:
    """Read files of a packed tree piece by piece, each whole before the next, in the order given.

    Quickest in the order of the index or of the paths. Close the iterator (`contextlib.aclosing`)
    if it is not read to its end.
    Raises: InvalidPack; BlockNotFound and ContentError, with a note that names the pack;
    TreeTooLarge, for an order or a tree that would have the same packs loaded without end;
    StoreError; ValueError for a path that is no file of the tree.
    """
    wanted = [(path, _file(tree, path)) for path in paths]
    plan = _Plan(plan_loads(tree.packs, (file for _, file in wanted), room))
    kept: dict[int, bytes] = {}
    current = -1
    async with aclosing(_load(store, tree.packs, plan.loads(), window)) as loaded:
        for path, file in wanted:
            if not file.size:
                yield FilePiece(path, b"", True)
            left = file.size
            for number, start, stop in slices_of(tree.packs, file):
                if number != current:
                    step = plan.next_step()
                    if not isinstance(step, int):
                        for old in step.drop if step is not None else ():
                            del kept[old]
                        # After a plan that failed this raises why.
                        kept[number] = await anext(loaded)
                    current = number
                for at in range(start, stop, _STEP):
                    end = min(at + _STEP, stop)
                    left -= end - at
                    yield FilePiece(path, kept[number][at:end], not left)


async def read_pack(store: BlockReader, tree: PackedTree, number: int) -> bytes:
    """Read one pack, decompressed.

    Raises: InvalidPack; BlockNotFound and ContentError, with a note that names the pack;
    StoreError.
    """
    async with aclosing(_load(store, tree.packs, iter([number]), DEFAULT_WINDOW)) as loaded:
        return await anext(loaded)


def packs_of(tree: PackedTree, file: PackedFile) -> list[int]:
    """The numbers of the packs that a file is in; none of an empty one."""
    return [number for number, _, _ in slices_of(tree.packs, file)]


def _file(tree: PackedTree, path: Path) -> PackedFile:
    entry = tree.get(path)
    if not isinstance(entry, PackedFile):
        raise ValueError(f"{path} is not a file of this tree")
    return entry


class _Plan:
    """The steps of a plan, taken twice: the loads early, by who fetches, and all in their turn."""

    def __init__(self, steps: Iterator[Load | int]) -> None:
        self._steps = steps
        self._coming: deque[Load | int] = deque()
        self._loads: deque[int] = deque()

    def next_step(self) -> Load | int | None:
        """What is to be done for the next use of a pack; None if the plan failed."""
        if not self._coming:
            self._advance()
        return self._coming.popleft() if self._coming else None

    def loads(self) -> Iterator[int]:
        """The packs to be loaded, in order."""
        while True:
            while self._loads:
                yield self._loads.popleft()
            if not self._advance():
                return

    def _advance(self) -> bool:
        step = next(self._steps, None)
        if step is None:
            return False
        self._coming.append(step)
        if isinstance(step, Load):
            self._loads.append(step.pack)
        return True


async def _load(
    store: BlockReader, packs: Sequence[Pack], numbers: Iterator[int], window: int
) -> AsyncGenerator[bytes, None]:
    """Load packs in order, some ahead of whoever takes them."""
    opened: set[asyncio.Task[list[bytes]]] = set()
    opening = _open_ahead(_stored(store, packs, numbers, window), packs, opened)
    try:
        async with run_ahead(opening, _STEPS_AHEAD) as next_step:
            while (step := await next_step()) is not None:
                contents = await asyncio.shield(step)
                opened.discard(step)
                for content in contents:
                    yield content
    finally:
        for task in opened:
            task.cancel()
        await settle(*opened)


async def _open_ahead(
    stored: AsyncGenerator[tuple[int, bytes], None],
    packs: Sequence[Pack],
    opened: set[asyncio.Task[list[bytes]]],
) -> AsyncGenerator[asyncio.Task[list[bytes]], None]:
    """Have packs opened as they come; the tasks are noted in `opened` too."""
    async with aclosing(stored), aclosing(_in_steps(stored, packs)) as steps:
        async for step in steps:
            task = asyncio.create_task(in_thread(_open_packs, packs, step))
            opened.add(task)
            yield task


def _open_packs(packs: Sequence[Pack], stored: list[tuple[int, bytes]]) -> list[bytes]:
    return [_open_pack(number, packs[number], content) for number, content in stored]


async def _in_steps(
    stored: AsyncIterator[tuple[int, bytes]], packs: Sequence[Pack]
) -> AsyncGenerator[list[tuple[int, bytes]], None]:
    step: list[tuple[int, bytes]] = []
    size = 0
    async for number, content in stored:
        step.append((number, content))
        size += packs[number].size
        if size >= _STEP:
            yield step
            step, size = [], 0
    if step:
        yield step


async def _stored(
    store: BlockReader, packs: Sequence[Pack], numbers: Iterator[int], window: int
) -> AsyncGenerator[tuple[int, bytes], None]:
    """Fetch what is stored of packs, in order.

    Raises: InvalidPack, if a piece has another length than the index says.
    """
    asked: deque[int] = deque()

    def pieces() -> Iterator[tuple[Path, ReadCapability]]:
        for number in numbers:
            asked.append(number)
            for piece in packs[number].pieces():
                yield (f"pack {number}",), piece

    parts: list[bytes] = []
    lengths: list[int] = []
    done = length = 0
    async with aclosing(fetch_files(store, pieces(), window=window)) as contents:
        async for _, content, last in contents:
            number = asked[0]
            if not lengths:
                lengths = piece_lengths(packs[number].stored_size)
            parts.append(content)
            length += len(content)
            # Checked at once, so that no more is held than the index says.
            if length > lengths[done] or (last and length != lengths[done]):
                raise InvalidPack(number, f"a piece that is not of {lengths[done]} bytes")
            if last:
                done, length = done + 1, 0
            if done == len(lengths):
                asked.popleft()
                yield number, b"".join(parts)
                parts, lengths, done = [], [], 0
