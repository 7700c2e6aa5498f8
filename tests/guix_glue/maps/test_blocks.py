"""A map in blocks: how many round trips a look-up takes, and what a hostile one costs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from eris import BlockNotFound, BlockSize, MemoryStore, ReadCapability, Reference
from eris.errors import StoreUnavailable
from eris.transfer import put_content
from guix_glue.formats.item_map import (
    PAGE_SIZE,
    Entry,
    InvalidMap,
    MapLimits,
    format_head,
    format_page,
    hash_part_at,
    home_of,
    parse_page,
    urn_of,
)
from guix_glue.maps.blocks import BlockMap
from tests.fakes import LossyStore
from tests.guix_glue.maps.entries import FACTS, entries, formatted, hash_parts

# The smallest with two levels of inner nodes, as one of a million items has; hardly filled.
PAGES = 2 * 512 - 2
MOST_REQUESTS = 20


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
    made = entries(3000)
    pages: list[list[Entry]] = [[] for _ in range(PAGES)]
    for entry in made:
        pages[home_of(entry.key, PAGES) - 1].append(entry)
    head = format_head(FACTS, len(made), PAGES).ljust(PAGE_SIZE, b"\0")
    bodies = (b"".join(one.key + one.value for one in page) for page in pages)
    found = stored(head + b"".join(map(format_page, bodies)), made)
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
            # A root, two inner nodes, and then a leaf each; some are full.
            assert rounds.gets <= 3 + 12 + 2
        assert firsts == [3] * 8
        assert max(laters) <= 3
        assert sum(laters) / len(laters) <= 1.5

    asyncio.run(run())


def test_what_is_not_there_costs_as_much(large: Stored) -> None:
    async def run() -> None:
        rounds = Rounds(large.store)
        one = BlockMap(rounds, large.capability)
        missing = hash_parts(20)
        assert [await one.find(hash_part) for hash_part in missing] == [None] * 20
        assert rounds.count <= 3 + 1.5 * 20
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


@pytest.mark.parametrize("count", [0, 1, 20, 180, 200, 390])
def test_small_maps(count: int) -> None:
    """Of none, one and both block sizes, with and without inner nodes and pages."""
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


def lying(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change each page of a map."""

    def lie(data: bytes) -> bytes:
        pages = range(PAGE_SIZE, len(data), PAGE_SIZE)
        return data[:PAGE_SIZE] + b"".join(change(data[at : at + PAGE_SIZE]) for at in pages)

    return lie


def backwards(page: bytes) -> bytes:
    return format_page(b"".join(one.key + one.value for one in parse_page(page).entries[::-1]))


def one_key(page: bytes) -> bytes:
    """All entries of one item."""
    first = parse_page(page).entries[0]
    return format_page((first.key + first.value) * 385)


def full_of_others(page: bytes) -> bytes:
    return format_page(b"".join(one.key + one.value for one in entries(385, seed=5)))


def nothing(page: bytes) -> bytes:
    return bytes(PAGE_SIZE)


def counts_more(page: bytes) -> bytes:
    return page[:6] + b"\xff\xff" + page[8:]


@pytest.mark.parametrize("change", [backwards, one_key, full_of_others, nothing, counts_more])
def test_a_map_that_lies_costs_few_requests(change: Callable[[bytes], bytes]) -> None:
    made = entries(6000)
    found = stored(lying(change)(formatted(made)), made)

    async def run() -> None:
        rounds = Rounds(found.store)
        one = BlockMap(rounds, found.capability)
        for hash_part in (*hash_parts(3), hash_part_at(made[5900].key)):
            before = rounds.gets
            with pytest.raises(InvalidMap):
                await one.find(hash_part)
            assert rounds.gets - before <= MOST_REQUESTS
        with pytest.raises(InvalidMap):
            await one.load()
        await one.close()

    asyncio.run(run())


def test_pages_that_are_all_full_and_before_what_is_wanted() -> None:
    """The most that a look-up can cost."""
    alike = [Entry((2**159 + place).to_bytes(20, "big"), bytes(65)) for place in range(5000)]
    made = [*(one for one in entries(6000, seed=2) if one.key[0] not in range(120, 140)), *alike]
    found = stored(formatted(made), made)

    async def run() -> None:
        rounds = Rounds(found.store)
        one = BlockMap(rounds, found.capability)
        missing = hash_part_at((2**159 + 5000).to_bytes(20, "big"))
        assert await one.find(missing) is None
        assert 10 < rounds.gets <= MOST_REQUESTS
        await one.close()

    asyncio.run(run())


@pytest.mark.parametrize("block_size", [None, BlockSize.SMALL])
def test_a_capability_of_many_levels_costs_nothing(block_size: BlockSize | None) -> None:
    async def run() -> None:
        store = MemoryStore()
        made = formatted(entries(3000))
        root = (await put_content(store, made, block_size=block_size)).root
        rounds = Rounds(store)
        for level in (3, 255):
            one = BlockMap(rounds, ReadCapability(block_size or BlockSize.LARGE, level, root))
            with pytest.raises(InvalidMap, match="larger"):
                await one.find(hash_parts(1)[0])
            with pytest.raises(InvalidMap, match="larger"):
                await one.load()
            await one.close()
        assert rounds.gets == 0

    asyncio.run(run())


@pytest.mark.parametrize("size", [100, 20_000, 200_000])
def test_another_content_is_refused(size: int) -> None:
    async def run() -> None:
        store = MemoryStore()
        one = BlockMap(store, await put_content(store, b"x" * size))
        with pytest.raises(InvalidMap):
            await one.find(hash_parts(1)[0])
        with pytest.raises(InvalidMap):
            await one.load()
        await one.close()

    asyncio.run(run())


def test_more_entries_than_the_limit(medium: Stored) -> None:
    async def run() -> None:
        one = BlockMap(medium.store, medium.capability, MapLimits(count=4999))
        with pytest.raises(InvalidMap, match="4999"):
            await one.load()
        await one.close()

    asyncio.run(run())
