"""Pins through the front of the store: what was held stays, and is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eris import BlockSize, ErisError, Reference, StoreFull
from kapla.errors import PinIncomplete, PinNotFound, RequestMalformed
from kapla.storage.batching import BatchedStorage
from kapla.storage.pinning import OpenPin
from kapla.storage.sqlite.keeping.ids import Ids
from tests.kapla.storage.backends import keeping_of
from tests.kapla.storage.databases import batched, make_blocks, put_many, settings_for, under_pin

OWNER = 1000


async def put(storage: BatchedStorage, blocks: list[bytes], pin: OpenPin | None = None) -> None:
    if pin is None:
        assert await put_many(storage, blocks) is None
    else:
        await under_pin(storage, blocks, pin)


async def find(storage: BatchedStorage, names: list[Reference], pin: OpenPin) -> list[bool]:
    answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    storage.find_many(names, answer.set_result, hold=pin.hold)
    found = await answer
    if isinstance(found, ErisError):
        raise found
    assert isinstance(found, list)
    return found


def test_what_is_put_under_a_pin_is_in_it_new_or_not(tmp_path: Path) -> None:
    before, new = make_blocks(3), make_blocks(5, seed=1)
    large = make_blocks(2, BlockSize.LARGE)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await put(storage, list(before.values()))
            pin = await storage.pinning.open(OWNER)
            await put(storage, [*new.values(), *list(before.values())[:2]], pin)
            await put(storage, list(large.values()), pin)
            root = next(iter(new))
            summary = await storage.pinning.close(pin, name="notes", root=root, lend=True)
            assert (summary.small, summary.large, summary.missing) == (7, 2, 0)
            assert (summary.own_small, summary.own_large) == (7, 2)
            assert (summary.name, summary.root, summary.owner) == ("notes", root, OWNER)
            assert len(keeping_of(storage).kept) == len(keeping_of(storage).lent) == 9
        async with batched(settings_for(tmp_path)) as storage:
            assert (await storage.pinning.list(OWNER, None, 100))[0] == [summary]
            assert len(keeping_of(storage).kept) == len(keeping_of(storage).lent) == 9
            assert await storage.pinning.release(OWNER, root=root) == summary
            assert keeping_of(storage).kept == keeping_of(storage).lent == Ids()
            assert await storage.pinning.list(None, None, 100) == ([], None)
            with pytest.raises(PinNotFound):
                await storage.pinning.release(OWNER, name="notes")

    asyncio.run(main())


def test_a_yes_under_a_pin_is_in_it(tmp_path: Path) -> None:
    blocks, absent = make_blocks(5), make_blocks(2, seed=1)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await put(storage, list(blocks.values()))
            pin = await storage.pinning.open(OWNER)
            names = list(blocks)[:3] + list(absent)
            assert await find(storage, names, pin) == [True] * 3 + [False] * 2
            assert (await storage.pinning.close(pin, name="a")).small == 3
            other = await storage.pinning.open(OWNER)
            assert await storage.pinning.want(other, names) == [True] * 3 + [False] * 2
            with pytest.raises(PinIncomplete, match="2 blocks are missing"):
                await storage.pinning.close(other, name="b")
            summary = await storage.pinning.close(other, name="b", incomplete=True)
            assert (summary.small, summary.own_small, summary.missing) == (3, 0, 2)

    asyncio.run(main())


def test_a_pin_completes_as_blocks_arrive(tmp_path: Path) -> None:
    blocks, large = make_blocks(4), make_blocks(1, BlockSize.LARGE)
    names = [*blocks, *large]

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            for name in ("a", "b"):
                pin = await storage.pinning.open(OWNER)
                assert not any(await storage.pinning.want(pin, names))
                await storage.pinning.close(pin, name=name, incomplete=True)
            await put(storage, list(blocks.values())[:3])
        async with batched(settings_for(tmp_path)) as storage:
            await put(storage, list(large.values()))
            [first, second] = (await storage.pinning.list(OWNER, None, 9))[0]
            assert (first.small, first.large, first.missing) == (3, 1, 1)
            assert (second.own_small, second.own_large) == (0, 0)
            await put(storage, list(blocks.values()))
            [first, second] = (await storage.pinning.list(OWNER, None, 9))[0]
            assert (first.small, first.large, first.missing) == (4, 1, 0)
            assert len(keeping_of(storage).kept) == 5
        async with batched(settings_for(tmp_path)) as storage:
            assert len(keeping_of(storage).kept) == 5

    asyncio.run(main())


def test_what_an_open_pin_lacks_and_gets_is_held(tmp_path: Path) -> None:
    blocks = make_blocks(4)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            pin = await storage.pinning.open(OWNER)
            await storage.pinning.want(pin, list(blocks))
            await put(storage, list(blocks.values()))
            assert (await storage.pinning.close(pin, name="a")).small == 4

    asyncio.run(main())


def test_a_name_is_each_owners_own_and_is_replaced(tmp_path: Path) -> None:
    blocks = list(make_blocks(6).values())

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            for owner, part in ((1, blocks[:2]), (2, blocks[1:4]), (1, blocks[3:])):
                pin = await storage.pinning.open(owner)
                await put(storage, part, pin)
                await storage.pinning.close(pin, name="x")
            found, _ = await storage.pinning.list(None, None, 9)
            told = [(pin.owner, pin.small, pin.own_small) for pin in found]
            assert told == [(1, 3, 2), (2, 3, 2)]
            assert len(keeping_of(storage).kept) == 5

    asyncio.run(main())


def test_nothing_is_held_after_abandoning_and_the_pin_is_gone(tmp_path: Path) -> None:
    blocks = make_blocks(3)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            pin = await storage.pinning.open(OWNER)
            await put(storage, list(blocks.values()), pin)
            assert len(keeping_of(storage).safe()) == 3
            await storage.pinning.abandon(pin)
            assert keeping_of(storage).safe() == Ids()
            with pytest.raises(PinNotFound):
                await storage.pinning.close(pin, name="x")

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "a\nb", "\0", "ä" * 128, "\ud800"])
def test_what_cannot_be_a_name_is_refused(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            pin = await storage.pinning.open(OWNER)
            with pytest.raises(RequestMalformed):
                await storage.pinning.close(pin, name=name)
            assert (await storage.pinning.close(pin, name="ä" * 127)).name == "ä" * 127

    asyncio.run(main())


def test_pages_of_a_list_go_on_where_the_last_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            for owner in (2, 1):
                for name in ("b", "c:d", "a"):
                    await storage.pinning.close(await storage.pinning.open(owner), name=name)
            names, after = [], None
            while True:
                found, after = await storage.pinning.list(None, after, 2)
                names += [(pin.owner, pin.name) for pin in found]
                if after is None:
                    break
            assert names == [(n, name) for n in (1, 2) for name in ("a", "b", "c:d")]
            assert len((await storage.pinning.list(2, None, 9))[0]) == 3

    asyncio.run(main())


def test_an_owner_who_pins_too_much_is_told_how_much(tmp_path: Path) -> None:
    blocks = list(make_blocks(12, BlockSize.LARGE).values())

    async def main() -> None:
        settings = settings_for(tmp_path, max_pinned=10 * 32768)
        async with batched(settings) as storage:
            first = await storage.pinning.open(OWNER)
            await put(storage, blocks[:6], first)
            await storage.pinning.close(first, name="a")
            second = await storage.pinning.open(OWNER)
            assert second.room == 4 * 32768
            # What is pinned already is no more than it was.
            await put(storage, blocks[:10], second)
            with pytest.raises(StoreFull, match="320 KiB of the 320 KiB"):
                await put(storage, blocks[10:], second)
            await put(storage, blocks[10:])
            with pytest.raises(StoreFull, match="320 KiB of the 320 KiB"):
                await find(storage, await names_of(storage, blocks[10:]), second)
            with pytest.raises(StoreFull):
                await storage.pinning.open(OWNER, wants=1)
            assert (await storage.pinning.open(OWNER + 1, wants=320 * 1024)).room == 10 * 32768
            await storage.pinning.close(second, name="a")
            await storage.pinning.release(OWNER, name="a")
            assert (await storage.pinning.open(OWNER)).room == 10 * 32768

    asyncio.run(main())


async def names_of(storage: BatchedStorage, blocks: list[bytes]) -> list[Reference]:
    return [name for name, block in make_blocks(12, BlockSize.LARGE).items() if block in blocks]
