"""A map in blocks: how many round trips a look-up takes, and what a hostile one costs."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from eris import BlockNotFound, BlockSize, MemoryStore, ReadCapability, Reference
from eris.errors import CorruptBlock, StoreUnavailable
from eris.transfer import put_content
from guix_glue.formats.item_map import (
    LARGEST_HEAD,
    Entry,
    InvalidMap,
    MapLimits,
    hash_part_at,
    urn_of,
)
from guix_glue.maps.blocks import BlockMap
from tests.fakes import LossyStore
from tests.guix_glue.maps.entries import entries, formatted, hash_parts

# The smallest with two levels of inner nodes, as one of a million items has.
COUNT = 200_000
MOST_REQUESTS = 64


class Rounds:
    """A store far away: what is asked at once is answered at once, and a round trip later."""

    def __init__(self, inner: MemoryStore) -> None:
        self.count = 0
        self.gets = 0
        self._inner = inner
        self._waiting: list[asyncio.Future[None]] = []
        self._pump: asyncio.Task[None] | None = None

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self.gets += 1
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._pump is None:
            self._pump = asyncio.create_task(self._answer())
        await turn
        return await self._inner.get(reference, block_size)

    async def _answer(self) -> None:
        # Until nobody asks for more without an answer.
        asked = 0
        while asked != len(self._waiting):
            asked = len(self._waiting)
            for _ in range(10):
                await asyncio.sleep(0)
        waiting, self._waiting, self._pump = self._waiting, [], None
        self.count += 1
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


@dataclass(frozen=True)
class Stored:
    entries: list[Entry]
    store: MemoryStore
    capability: ReadCapability


def stored(data: bytes, made: list[Entry], block_size: BlockSize | None = None) -> Stored:
    store = MemoryStore()
    capability = asyncio.run(put_content(store, data, block_size=block_size))
    return Stored(made, store, capability)


@pytest.fixture(scope="module")
def large() -> Stored:
    made = entries(COUNT)
    found = stored(formatted(made), made)
    assert found.capability.level == 2
    return found


@pytest.fixture(scope="module")
def medium() -> Stored:
    made = entries(5000)
    return stored(formatted(made), made)


def test_the_first_look_up_takes_three_round_trips_and_each_later_one_about_one(
    large: Stored,
) -> None:
    async def run() -> None:
        firsts: list[int] = []
        laters: list[int] = []
        source = random.Random(3)
        for _ in range(8):
            rounds = Rounds(large.store)
            one = BlockMap(rounds, large.capability)
            for number, entry in enumerate(source.sample(large.entries, 12)):
                before = rounds.count
                assert await one.find(hash_part_at(entry.key)) == urn_of(entry.value)
                (laters if number else firsts).append(rounds.count - before)
            await one.close()
            # Inner nodes, the head, a window, and then a leaf or two each.
            assert rounds.gets <= 5 + 1 + 8 + 11 * 2
        assert sum(firsts) / len(firsts) <= 3.2
        assert max(firsts) <= 4
        assert sum(laters) / len(laters) <= 1.5

    asyncio.run(run())


def test_what_is_not_there_costs_as_much(large: Stored) -> None:
    async def run() -> None:
        rounds = Rounds(large.store)
        one = BlockMap(rounds, large.capability)
        missing = hash_parts(20)
        assert [await one.find(hash_part) for hash_part in missing] == [None] * 20
        assert rounds.count <= 4 + 1.5 * 20
        await one.close()

    asyncio.run(run())


def test_many_at_once_open_it_once(medium: Stored) -> None:
    async def run() -> None:
        rounds = Rounds(medium.store)
        one = BlockMap(rounds, medium.capability)
        wanted = medium.entries[::50]
        found = await asyncio.gather(*(one.find(hash_part_at(entry.key)) for entry in wanted))
        assert found == [urn_of(entry.value) for entry in wanted]
        assert rounds.gets <= len(medium.store)
        await one.close()

    asyncio.run(run())


@pytest.mark.parametrize("count", [0, 1, 20, 180, 200])
def test_small_maps(count: int) -> None:
    """Of none, one and both block sizes, with and without inner nodes."""
    made = entries(count)
    found = stored(formatted(made), made)

    async def run() -> None:
        one = BlockMap(found.store, found.capability)
        for entry in made:
            assert await one.find(hash_part_at(entry.key)) == urn_of(entry.value)
        assert await one.find(hash_parts(1)[0]) is None
        assert list(await one.load()) == made
        assert "redacted" in repr(one)
        await one.close()

    asyncio.run(run())


def test_opening_goes_on_when_nobody_waits_any_more(medium: Stored) -> None:
    async def run() -> None:
        rounds = Rounds(medium.store)
        one = BlockMap(rounds, medium.capability)
        entry = medium.entries[10]
        waiting = asyncio.create_task(one.find(hash_part_at(entry.key)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await one.find(hash_part_at(entry.key)) == urn_of(entry.value)
        assert rounds.gets <= len(medium.store)
        await one.close()

    asyncio.run(run())


def test_what_failed_is_tried_again(medium: Stored) -> None:
    class Down:
        is_down = True

        def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
            if self.is_down:
                raise StoreUnavailable("it is down")
            return medium.store.get(reference, block_size)

    async def run() -> None:
        store = Down()
        one = BlockMap(store, medium.capability)
        entry = medium.entries[0]
        with pytest.raises(StoreUnavailable):
            await one.find(hash_part_at(entry.key))
        store.is_down = False
        assert await one.find(hash_part_at(entry.key)) == urn_of(entry.value)
        await one.close()

    asyncio.run(run())


def test_a_leaf_that_is_missing_fails_the_items_in_it_alone(medium: Stored) -> None:
    async def lost_leaf() -> Reference:
        rounds = _Last(medium.store)
        one = BlockMap(rounds, medium.capability)
        await one.find(hash_part_at(medium.entries[0].key))
        rounds.asked.clear()
        await one.find(hash_part_at(medium.entries[4000].key))
        await one.close()
        return rounds.asked[-1]

    async def run() -> None:
        one = BlockMap(LossyStore(medium.store, {await lost_leaf()}), medium.capability)
        assert await one.find(hash_part_at(medium.entries[0].key))
        with pytest.raises(BlockNotFound):
            await one.find(hash_part_at(medium.entries[4000].key))
        assert await one.find(hash_part_at(medium.entries[1].key))
        await one.close()

    asyncio.run(run())


class _Last:
    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self.asked: list[Reference] = []

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        self.asked.append(reference)
        return self._inner.get(reference, block_size)


# --- hostile maps -------------------------------------------------------------------------------


def swapped(data: bytes, made: list[Entry]) -> bytes:
    """Each two neighbours in the wrong order."""
    body = b"".join(
        b.key + b.value + a.key + a.value for a, b in zip(made[::2], made[1::2], strict=True)
    )
    return data[: len(data) - len(body)] + body


def one_key(data: bytes, made: list[Entry]) -> bytes:
    """All entries of one item."""
    body = (made[0].key + made[0].value) * len(made)
    return data[: len(data) - len(body)] + body


def counts_more(data: bytes, made: list[Entry]) -> bytes:
    return data[:24] + struct.pack("<Q", 90_000_000) + data[32:]


def counts_less(data: bytes, made: list[Entry]) -> bytes:
    return data[:24] + struct.pack("<Q", 1) + data[32:]


def others_entries(data: bytes, made: list[Entry]) -> bytes:
    """A head that is not of these entries."""
    other = formatted(entries(len(made), seed=8))
    start = len(data) - 85 * len(made)
    return other[:start] + data[start:]


def no_map(data: bytes, made: list[Entry]) -> bytes:
    return bytes(len(data))


@pytest.mark.parametrize(
    "lie", [swapped, one_key, counts_more, counts_less, others_entries, no_map]
)
def test_a_map_that_lies_costs_few_requests(
    lie: Callable[[bytes, list[Entry]], bytes],
) -> None:
    made = entries(6000)
    found = stored(lie(formatted(made), made), made)

    async def run() -> None:
        rounds = Rounds(found.store)
        one = BlockMap(rounds, found.capability)
        failures = 0
        for hash_part in (*hash_parts(3), hash_part_at(made[5900].key)):
            before = rounds.gets
            try:
                await one.find(hash_part)
            except InvalidMap:
                failures += 1
            assert rounds.gets - before <= MOST_REQUESTS
        # Entries of others look like ours, but that none of them is there.
        assert failures or lie is others_entries
        await one.close()

    asyncio.run(run())


def test_a_capability_of_255_levels_costs_nothing() -> None:
    async def run() -> None:
        store = MemoryStore()
        capability = await put_content(store, formatted(entries(3000)))
        rounds = Rounds(store)
        one = BlockMap(rounds, ReadCapability(capability.block_size, 255, capability.root))
        with pytest.raises(InvalidMap, match="larger"):
            await one.find(hash_parts(1)[0])
        with pytest.raises(InvalidMap, match="larger"):
            await one.load()
        assert rounds.gets == 0
        await one.close()

    asyncio.run(run())


def test_another_content_is_refused() -> None:
    async def run() -> None:
        store = MemoryStore()
        capability = await put_content(store, b"x" * LARGEST_HEAD)
        one = BlockMap(store, capability)
        with pytest.raises(InvalidMap, match="begin"):
            await one.find(hash_parts(1)[0])
        torn = ReadCapability(capability.block_size, 0, capability.root)
        other = BlockMap(store, torn)
        with pytest.raises((InvalidMap, CorruptBlock, Exception)):
            await other.find(hash_parts(1)[0])
        await one.close()
        await other.close()

    asyncio.run(run())


def test_more_entries_than_the_limit(medium: Stored) -> None:
    async def run() -> None:
        one = BlockMap(medium.store, medium.capability, MapLimits(count=4999))
        with pytest.raises(InvalidMap, match="4999"):
            await one.find(hash_parts(1)[0])
        await one.close()

    asyncio.run(run())
