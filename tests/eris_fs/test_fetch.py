"""Fetching many files at once: order, bounds, and what fails in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import (
    BlockNotFound,
    BlockSize,
    Key,
    MemoryStore,
    ReadCapability,
    Reference,
    ReferenceKeyPair,
    StoreUnavailable,
    put_content,
    reference_of,
)
from eris.crypto import encrypt_node
from eris_fs import Path, fetch_files
from tests.eris_fs.stores import BackwardStore
from tests.eris_fs.trees import bomb, capability
from tests.examples import examples

sizes = st.lists(
    st.sampled_from([0, 0, 1, 1000, 1024, 5000, 16383, 16384, 40_000, 600_000]), max_size=40
)


def content(number: int, size: int) -> bytes:
    """Make contents that differ from each other and within."""
    return b"".join(b"%d:%d " % (number, at) for at in range(size // 4 + 1))[:size]


@settings(max_examples=examples(60), deadline=None)
@given(sizes, st.integers(1, 80), st.sampled_from([1, 100_000, 8_000_000]))
def test_files_come_whole_and_in_order(sizes: list[int], window: int, buffer: int) -> None:
    async def run() -> None:
        memory = MemoryStore()
        contents = [content(number, size) for number, size in enumerate(sizes)]
        files: list[tuple[Path, ReadCapability]] = [
            ((str(number),), await put_content(memory, data))
            for number, data in enumerate(contents)
        ]
        store = BackwardStore(memory)
        received: list[tuple[Path, bytes]] = []
        partial = b""
        pieces = fetch_files(store, files, window=window, buffer=buffer)
        async for path, data, last in pieces:
            assert path == files[len(received)][0]
            partial += data
            if last:
                received.append((path, partial))
                partial = b""
        assert received == [(path, data) for (path, _), data in zip(files, contents, strict=True)]
        assert store.most_in_flight <= window
        assert store.in_flight == 0

    asyncio.run(run())


def fetch_behind(
    other: bytes, *, window: int, buffer: int, count: int = 1_000_000
) -> tuple[int, int]:
    """Fetch a file that takes long to begin, and many equal ones behind it, until it begins.

    Returns how many of those were begun, and how many of their blocks were asked for.
    """
    # One request after the other, 60 levels down, before there is any content.
    deep, blocks = bomb(60)
    memory = MemoryStore(blocks)
    one = asyncio.run(put_content(memory, other))
    own = {reference_of(block) for block in blocks}
    begun = asked = 0

    class Counting(MemoryStore):
        async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
            nonlocal asked
            asked += reference not in own
            return await memory.get(reference, block_size)

    def files() -> Iterator[tuple[Path, ReadCapability]]:
        nonlocal begun
        yield ("deep",), deep
        for number in range(count):
            begun += 1
            yield (str(number),), one

    async def run() -> None:
        pieces = fetch_files(Counting(), files(), window=window, buffer=buffer)
        async with aclosing(pieces):
            assert (await anext(pieces)).path == ("deep",)

    asyncio.run(run())
    return begun, asked


@pytest.mark.parametrize("size", [1023, 32767, 400_000])
@pytest.mark.parametrize("buffer", [64 * 1024, 1024 * 1024])
def test_what_waits_is_bounded(size: int, buffer: int) -> None:
    _, asked = fetch_behind(b"x" * size, window=64, buffer=buffer)
    block_size = 1024 if size < 16384 else 32768
    # An internal node is asked for, but nothing of it waits: one a file.
    files = 64 * 4 if size == 400_000 else 0
    assert 1 < asked <= buffer // block_size + 1 + files


def test_empty_files_that_wait_are_bounded() -> None:
    # They take no room in the buffer, and there may be a million of them.
    begun, _ = fetch_behind(b"", window=16, buffer=1024 * 1024)
    assert begun == 4 * 16 - 1


@pytest.mark.parametrize("size", [0, 1, 1023])
def test_small_files_share_round_trips(size: int) -> None:
    async def run() -> None:
        memory = MemoryStore()
        store = BackwardStore(memory)
        one = await put_content(memory, b"x" * size)
        files = (((str(number),), one) for number in range(2000))
        count = 0
        async for piece in fetch_files(store, files, window=64, buffer=100_000):
            count += piece.last
        assert count == 2000
        # Each round trip brings half a window at least.
        assert store.turns <= 2000 // 32 + 2

    asyncio.run(run())


def test_a_missing_block_ends_it() -> None:
    async def run() -> list[Path]:
        store = MemoryStore()
        there = await put_content(store, b"there")
        files: list[tuple[Path, ReadCapability]] = [
            (("a",), there),
            (("b",), capability(9)),
            (("c",), there),
        ]
        seen = []
        with pytest.raises(BlockNotFound) as caught:
            async for piece in fetch_files(store, files):
                seen.append(piece.path)
        assert caught.value.__notes__ == ["while reading b"]
        return seen

    assert asyncio.run(run()) == [("a",)]


def test_no_files() -> None:
    async def run() -> None:
        async for _ in fetch_files(MemoryStore(), []):
            raise AssertionError("something came of nothing")

    asyncio.run(run())


def test_closing_early_withdraws_what_is_asked_for() -> None:
    async def run() -> None:
        memory = MemoryStore()
        one = await put_content(memory, b"one")
        store = BackwardStore(memory)
        files = (((str(number),), one) for number in range(1000))
        async with aclosing(fetch_files(store, files, window=8)) as pieces:
            assert (await anext(pieces)).content == b"one"
        before = store.in_flight
        for _ in range(10):
            await asyncio.sleep(0)
        assert store.in_flight == 0 <= before <= 8

    asyncio.run(run())


def test_files_behind_a_slow_one_go_on() -> None:
    async def run() -> None:
        memory = MemoryStore()
        slow = await put_content(memory, b"slow")
        deep = await put_content(memory, content(1, 20_000), block_size=BlockSize.SMALL)
        assert deep.level == 2
        blocks_of_deep = len(memory) - 1
        asked = 0
        all_asked, answer = asyncio.Event(), asyncio.Event()

        class Slow(MemoryStore):
            async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
                nonlocal asked
                if reference == slow.root.reference:
                    await answer.wait()
                else:
                    asked += 1
                    if asked == blocks_of_deep:
                        all_asked.set()
                return await memory.get(reference, block_size)

        async def read() -> list[bytes]:
            files: list[tuple[Path, ReadCapability]] = [(("slow",), slow), (("deep",), deep)]
            return [piece.content async for piece in fetch_files(Slow(), files)]

        reading = asyncio.create_task(read())
        async with asyncio.timeout(10):
            await all_asked.wait()
        assert not reading.done()
        answer.set()
        assert b"".join(await reading) == b"slow" + content(1, 20_000)

    asyncio.run(run())


class FarStore:
    """Has some blocks near, answered at once, and others far, of which a trip brings `rate`."""

    def __init__(self, near: MemoryStore, far: MemoryStore, rate: int = 1_000_000) -> None:
        self._near, self._far, self._rate = near, far, rate
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._gets = 0
        self.asked = 0
        self.trips = 0

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Fetch a block."""
        self._gets += 1
        if reference in self._near:
            return await self._near.get(reference, block_size)
        self.asked += 1
        self._waiting.append(asyncio.get_running_loop().create_future())
        await self._waiting[-1]
        return await self._far.get(reference, block_size)

    async def put(self, reference: Reference, block: bytes) -> None:
        """Keep a block here."""
        await self._near.put(reference, block)

    async def carry(self, reading: asyncio.Task[Any]) -> None:
        """Answer, trip by trip, until the task is done."""
        while not reading.done():
            # Until it has asked for all that it asks for without an answer.
            before = -1
            while before != self._gets:
                before = self._gets
                for _ in range(20):
                    await asyncio.sleep(0)
            assert self._waiting or reading.done(), "it waits for nothing"
            self.trips += bool(self._waiting)
            for _ in range(min(self._rate, len(self._waiting))):
                if not (future := self._waiting.popleft()).cancelled():
                    future.set_result(None)


@pytest.mark.parametrize("near", [0, 3, 30])
def test_far_files_among_near_ones_share_round_trips(near: int) -> None:
    """Near blocks are answered at once, and must not fill the buffer in front of far ones."""

    async def run() -> tuple[int, int]:
        here, there = MemoryStore(), MemoryStore()
        files: list[tuple[Path, ReadCapability]] = []
        for number in range(600):
            store = here if number % (near + 1) else there
            files.append(((str(number),), await put_content(store, content(number, 16_000))))
        both = FarStore(here, there)

        async def read() -> int:
            pieces = fetch_files(both, files, buffer=1024 * 1024)
            return sum([len(piece.content) async for piece in pieces])

        reading = asyncio.create_task(read())
        await both.carry(reading)
        return await reading, both.trips

    size, trips = asyncio.run(run())
    assert size == 600 * 16_000
    # 10 MB through a buffer of 1 MiB: ten times the three levels of a file, and as much again.
    assert trips <= 60


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 1025, 20_000, 70_000]), st.booleans()), max_size=60),
    st.sampled_from(BlockSize),
    st.integers(1, 100),
    st.sampled_from([1, 30_000, 200_000, 8_000_000]),
    st.integers(1, 40),
)
def test_near_and_far_files_come_whole_and_in_order(
    sizes: list[tuple[int, bool]], block_size: BlockSize, window: int, buffer: int, rate: int
) -> None:
    async def run() -> None:
        here, there = MemoryStore(), MemoryStore()
        files: list[tuple[Path, ReadCapability]] = []
        for number, (size, is_near) in enumerate(sizes):
            data = content(number, size)
            one = await put_content(here if is_near else there, data, block_size=block_size)
            files.append(((str(number),), one))
        store = FarStore(here, there, rate)

        async def read() -> list[bytes]:
            found = [b""]
            async for piece in fetch_files(store, files, window=window, buffer=buffer):
                found[-1] += piece.content
                if piece.last:
                    found.append(b"")
            return found[:-1]

        reading = asyncio.create_task(read())
        await store.carry(reading)
        assert await reading == [content(number, size) for number, (size, _) in enumerate(sizes)]

    asyncio.run(run())


def test_files_in_front_ask_first() -> None:
    """Else later files take the window, and those in front go on one by one."""

    async def run() -> tuple[int, int]:
        there = MemoryStore()
        files: list[tuple[Path, ReadCapability]] = []
        for number in range(200):
            one = await put_content(there, content(number, 60_000), block_size=BlockSize.SMALL)
            assert one.level == 2
            files.append(((str(number),), one))
        store = FarStore(MemoryStore(), there, rate=50)

        async def read() -> None:
            async for _ in fetch_files(store, files, window=256, buffer=512 * 1024):
                pass

        reading = asyncio.create_task(read())
        await store.carry(reading)
        await reading
        return len(there), store.trips

    blocks, trips = asyncio.run(run())
    # What can come comes, but at the start and at the end.
    assert trips <= blocks / 50 + 6


def test_more_is_asked_for_while_pieces_are_used() -> None:
    async def run() -> None:
        there = MemoryStore()
        files: list[tuple[Path, ReadCapability]] = [
            ((str(number),), await put_content(there, content(number, 900)))
            for number in range(200)
        ]
        store = FarStore(MemoryStore(), there)

        async def read() -> None:
            async with aclosing(fetch_files(store, files, window=16)) as pieces:
                await anext(pieces)
                # Busy with it now.
                before = store.asked
                for _ in range(100):
                    await asyncio.sleep(0)
                # More than what was asked for just before.
                assert store.asked > before + 16

        reading = asyncio.create_task(read())
        await store.carry(reading)
        await reading

    asyncio.run(run())


def test_a_later_failure_waits_for_its_turn() -> None:
    async def run() -> None:
        store = MemoryStore()
        large = await put_content(store, content(1, 100_000))
        seen = 0
        with pytest.raises(BlockNotFound):
            async for piece in fetch_files(store, [(("a",), large), (("b",), capability(9))]):
                seen += len(piece.content)
        assert seen == 100_000

    asyncio.run(run())


# --- hostile files and stores -------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 4, 64])
@pytest.mark.parametrize("count", [0, 1, 100, 1000])
def test_whatever_names_the_files_may_fail(window: int, count: int) -> None:
    async def run() -> int:
        store = MemoryStore()
        one = await put_content(store, b"one")

        def files() -> Iterator[tuple[Path, ReadCapability]]:
            for number in range(count):
                yield (str(number),), one
            raise ZeroDivisionError

        read = 0
        with pytest.raises(ZeroDivisionError):
            async for piece in fetch_files(store, files(), window=window):
                read += piece.last
        return read

    assert asyncio.run(run()) == count


def test_a_store_that_raises_at_once_is_heard() -> None:
    class Rude:
        def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
            raise StoreUnavailable("no")

    async def run() -> None:
        one = ReadCapability.from_bytes(bytes([0x0A, 0]) + bytes(64))
        with pytest.raises(StoreUnavailable):
            async for _ in fetch_files(Rude(), [((str(n),), one) for n in range(5)]):
                pass

    asyncio.run(run())


def test_a_store_that_cancels_a_request_is_an_error_of_the_store() -> None:
    class Rude:
        def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
            future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            future.cancel()
            return future

    async def run() -> None:
        one = ReadCapability.from_bytes(bytes([0x0A, 0]) + bytes(64))
        with pytest.raises(StoreUnavailable):
            async for _ in fetch_files(Rude(), [(("a",), one)]):
                pass

    asyncio.run(run())


@pytest.mark.parametrize(("window", "buffer"), [(0, 1), (-1, 1), (1, 0)])
def test_nothing_under_way_is_refused(window: int, buffer: int) -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="moves nothing"):
            async for _ in fetch_files(MemoryStore(), [], window=window, buffer=buffer):
                pass

    asyncio.run(run())


def test_nothing_is_begun_behind_a_file_that_failed() -> None:
    """Each would take memory for 255 levels, and none would have its turn."""

    async def run() -> int:
        begun = 0
        first = await put_content(MemoryStore(), b"first")

        def files() -> Iterator[tuple[Path, ReadCapability]]:
            nonlocal begun
            yield ("first",), first
            for number in range(10_000):
                begun += 1
                missing = bytes([0x0A, 255]) + number.to_bytes(64)
                yield (str(number),), ReadCapability.from_bytes(missing)

        answer = asyncio.Event()

        class Slow(MemoryStore):
            async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
                if reference == first.root.reference:
                    await answer.wait()
                return await super().get(reference, block_size)

        async def read() -> None:
            async for _ in fetch_files(Slow(), files()):
                pass

        reading = asyncio.create_task(read())
        for _ in range(200):
            await asyncio.sleep(0)
        assert not reading.done()
        answer.set()
        with pytest.raises(BlockNotFound):
            await reading
        return begun

    assert asyncio.run(run()) <= 8


def test_deep_files_behind_do_not_go_down_together() -> None:
    """Each level that one goes down makes 512 more blocks known: in turn, not all at once."""
    size, levels = BlockSize.LARGE, 60
    reference, key, block = encrypt_node(bytes(size), 0)
    blocks, second = [block], reference
    leaf = reference
    for level in range(1, levels + 1):
        second = reference
        pairs = (reference + key) * (size.arity if level < levels else 2)
        reference, key, block = encrypt_node(pairs.ljust(size, b"\0"), level)
        blocks.append(block)
    deep = ReadCapability(size, levels, ReferenceKeyPair(reference, Key(key)))

    async def run() -> None:
        released, never, gets = asyncio.Event(), asyncio.Event(), 0

        class Colluding(MemoryStore):
            async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
                nonlocal gets
                gets += 1
                if reference in (second, leaf):
                    await (released if reference == second else never).wait()
                return await super().get(reference, block_size)

        files = [((str(number),), deep) for number in range(10_000)]

        async def read() -> None:
            async for _ in fetch_files(Colluding(blocks), files):
                pass

        reading = asyncio.create_task(read())
        for event in (never, released):
            before = -1
            while before != gets:
                before = gets
                for _ in range(20):
                    await asyncio.sleep(0)
            if event is never:
                released.set()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        # Roots and second levels of what was begun, and one file down to its leaves.
        assert gets < 1000

    asyncio.run(run())
