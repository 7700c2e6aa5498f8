"""Pins are made, counted, told of, changed and released alike, whatever keeps them."""

from __future__ import annotations

import asyncio
import random

import pytest

from eris import BlockSize, Reference, StoreFull
from kapla.errors import PinIncomplete, PinNotFound
from kapla.pins import default_name
from tests.kapla.storage.pins.stores import (
    MIB,
    OTHER,
    OWNER,
    Settings,
    batched,
    find,
    lent,
    lent_within_seconds,
    list_all,
    make_blocks,
    pinned,
    put,
    under_pin,
)


def test_what_is_put_under_a_pin_is_in_it_new_or_not(settings: Settings) -> None:
    before, new = make_blocks(3), make_blocks(5, seed=1)
    large = make_blocks(2, BlockSize.LARGE)

    async def main() -> None:
        async with batched(settings()) as storage:
            await put(storage, before)
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, [*new.values(), *list(before.values())[:2]], pin)
            await under_pin(storage, list(large.values()), pin)
            root = next(iter(new))
            summary = await storage.pinning.close(pin, name="notes", root=root, lend=True)
            assert (summary.small, summary.large, summary.missing) == (7, 2, 0)
            assert (summary.own_small, summary.own_large) == (7, 2)
            assert (summary.name, summary.root, summary.owner) == ("notes", root, OWNER)
            assert (summary.keep, summary.lend) == (True, True)
            assert storage.kept()[:2] == (9, 9)
        async with batched(settings()) as storage:
            assert await list_all(storage) == [summary]
            assert await storage.pinning.count() == 1
            assert await storage.pinning.release(OWNER, root=root) == summary
            assert await list_all(storage, None) == []
            assert await storage.pinning.count() == 0
            with pytest.raises(PinNotFound):
                await storage.pinning.release(OWNER, name="notes")

    asyncio.run(main())


def test_what_is_put_twice_or_found_too_counts_once(settings: Settings) -> None:
    blocks = make_blocks(50)

    async def main() -> None:
        async with batched(settings()) as storage:
            pin = await storage.pinning.open(OWNER)
            for _ in range(3):
                await under_pin(storage, list(blocks.values()), pin)
                assert all(await find(storage, list(blocks), pin))
                assert all(await storage.pinning.want(pin, list(blocks)))
            assert (await storage.pinning.close(pin, name="a")).small == 50

    asyncio.run(main())


def test_a_yes_under_a_pin_is_in_it(settings: Settings) -> None:
    blocks, absent = make_blocks(5), make_blocks(2, seed=1)

    async def main() -> None:
        async with batched(settings()) as storage:
            await put(storage, blocks)
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


def test_a_pin_completes_as_blocks_arrive(settings: Settings) -> None:
    blocks, large = make_blocks(4), make_blocks(1, BlockSize.LARGE)
    names = [*blocks, *large]

    async def main() -> None:
        async with batched(settings()) as storage:
            for name in ("a", "b"):
                pin = await storage.pinning.open(OWNER)
                assert not any(await storage.pinning.want(pin, names))
                await storage.pinning.close(pin, name=name, incomplete=True)
            await put(storage, dict(list(blocks.items())[:3]))
        async with batched(settings()) as storage:
            await put(storage, large)
            [first, second] = await list_all(storage)
            assert (first.small, first.large, first.missing) == (3, 1, 1)
            assert (second.own_small, second.own_large) == (0, 0)
            await put(storage, blocks)
            [first, second] = await list_all(storage)
            assert (first.small, first.large, first.missing) == (4, 1, 0)
            assert second.missing == 0

    asyncio.run(main())


def test_what_an_open_pin_lacks_and_gets_is_held(settings: Settings) -> None:
    blocks = make_blocks(4)

    async def main() -> None:
        async with batched(settings()) as storage:
            pin = await storage.pinning.open(OWNER)
            await storage.pinning.want(pin, list(blocks))
            await put(storage, blocks)
            assert (await storage.pinning.close(pin, name="a")).small == 4

    asyncio.run(main())


def test_a_pin_that_lacks_something_stays_open_and_can_be_closed_later(
    settings: Settings,
) -> None:
    blocks, late = make_blocks(4), make_blocks(1, seed=1)

    async def main() -> None:
        async with batched(settings()) as storage:
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(blocks.values()), pin)
            await storage.pinning.want(pin, list(late))
            with pytest.raises(PinIncomplete):
                await storage.pinning.close(pin, name="a")
            await under_pin(storage, list(late.values()), pin)
            summary = await storage.pinning.close(pin, name="a")
            assert (summary.small, summary.missing) == (5, 0)
            with pytest.raises(PinNotFound):
                await storage.pinning.close(pin, name="a")

    asyncio.run(main())


def test_a_name_is_each_owners_own_and_is_replaced(settings: Settings) -> None:
    blocks = list(make_blocks(6).items())

    async def main() -> None:
        async with batched(settings()) as storage:
            for owner, part in ((1, blocks[:2]), (2, blocks[1:4]), (1, blocks[3:])):
                await pinned(storage, dict(part), "x", owner=owner)
            found = await list_all(storage, None)
            told = [(pin.owner, pin.small, pin.own_small) for pin in found]
            assert told == [(1, 3, 2), (2, 3, 2)]
            assert storage.kept()[:2] == (5, 5)

    asyncio.run(main())


def test_without_a_name_a_pin_is_called_by_its_root(settings: Settings) -> None:
    blocks = make_blocks(2)
    root = next(iter(blocks))

    async def main() -> None:
        async with batched(settings()) as storage:
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(blocks.values()), pin)
            summary = await storage.pinning.close(pin, root=root)
            assert (summary.name, summary.root) == (default_name(root), root)
            await pinned(storage, blocks, "unlike")
            other = await storage.pinning.open(OTHER)
            await storage.pinning.close(other, name="of another", root=root)
            # All of this owner with the root, and only these.
            assert await storage.pinning.release(OWNER, root=root) == replaced(summary, own_small=0)
            assert [pin.name for pin in await list_all(storage, None)] == ["unlike", "of another"]

    asyncio.run(main())


def replaced(summary: object, **changes: object) -> object:
    from dataclasses import replace

    return replace(summary, **changes)  # type: ignore[type-var]


def test_switches_are_set_and_told(settings: Settings) -> None:
    blocks = make_blocks(3)

    async def main() -> None:
        async with batched(settings()) as storage:
            await pinned(storage, blocks, "a")
            changed = await storage.pinning.change(OWNER, name="a", lend=True, keep=False)
            assert (changed.lend, changed.keep, changed.small) == (True, False, 3)
            assert await storage.pinning.change(OWNER, name="a") == changed
            assert await list_all(storage) == [changed]
            again = await storage.pinning.change(OWNER, name="a", keep=True)
            assert (again.lend, again.keep, again.small) == (True, True, 3)
            with pytest.raises(PinNotFound):
                await storage.pinning.change(OTHER, name="a", lend=True)

    asyncio.run(main())


def test_pages_go_on_where_the_last_ended_in_the_order_of_the_names_bytes(
    settings: Settings,
) -> None:
    names = sorted(["b", "c:d", "a", "Z", "ä", "z", "\U0001f600", "\uffee"], key=str.encode)

    async def main() -> None:
        async with batched(settings()) as storage:
            for owner in (2, 1):
                for name in random.Random(1).sample(names, len(names)):
                    await storage.pinning.close(await storage.pinning.open(owner), name=name)
            found, after = [], None
            while True:
                page, after = await storage.pinning.list(None, after, 3)
                found += [(pin.owner, pin.name) for pin in page]
                if after is None:
                    break
            assert found == [(owner, name) for owner in (1, 2) for name in names]
            assert [pin.name for pin in await list_all(storage, 2)] == names
            assert (await storage.pinning.list(2, "2:z\0", 1))[0][0].name == "ä"

    asyncio.run(main())


def test_nothing_is_held_after_abandoning_and_the_pin_is_gone(settings: Settings) -> None:
    async def main() -> None:
        async with batched(settings(max_pinned=4 * 1024)) as storage:
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(make_blocks(4).values()), pin)
            assert (await storage.pinning.open(OWNER)).room == 0
            assert await storage.pinning.abandon(pin) == 0
            with pytest.raises(PinNotFound):
                await storage.pinning.close(pin, name="x")
            assert (await storage.pinning.open(OWNER)).room == 4 * 1024
            assert await list_all(storage, None) == []

    asyncio.run(main())


def test_an_owner_who_pins_too_much_is_told_how_much(settings: Settings) -> None:
    blocks = list(make_blocks(12, BlockSize.LARGE).items())

    async def main() -> None:
        async with batched(settings(max_pinned=10 * 32768)) as storage:
            await pinned(storage, dict(blocks[:6]), "a")
            second = await storage.pinning.open(OWNER)
            assert second.room == 4 * 32768
            # What is pinned already is no more than it was.
            await under_pin(storage, [block for _, block in blocks[:10]], second)
            with pytest.raises(StoreFull, match="320 KiB of the 320 KiB"):
                await under_pin(storage, [block for _, block in blocks[10:]], second)
            await put(storage, dict(blocks[10:]))
            with pytest.raises(StoreFull, match="320 KiB of the 320 KiB"):
                await find(storage, [name for name, _ in blocks[10:]], second)
            with pytest.raises(StoreFull, match="1 B are to come, and your pins hold"):
                await storage.pinning.open(OWNER, wants=1)
            assert (await storage.pinning.open(OTHER, wants=320 * 1024)).room == 10 * 32768
            summary = await storage.pinning.close(second, name="a")
            assert summary.large == 10
            await storage.pinning.release(OWNER, name="a")
            assert (await storage.pinning.open(OWNER)).room == 10 * 32768

    asyncio.run(main())


def test_what_is_lacking_counts_and_has_an_end(settings: Settings) -> None:
    source = random.Random(1)
    names = [Reference(source.randbytes(32)) for _ in range(9)]

    async def main() -> None:
        async with batched(settings(max_pinned=1024)) as storage:
            pin = await storage.pinning.open(OWNER)
            await storage.pinning.want(pin, names[:8])
            with pytest.raises(StoreFull, match="1 KiB of the 1 KiB"):
                await storage.pinning.want(pin, names[8:])
            await storage.pinning.abandon(pin)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("limits", "way"),
    [
        ({"max_size": 4 * MIB, "max_pinned": 1 << 30}, "release a pin, or raise max-size"),
        ({"max_size": 4 * MIB, "max_pinned": 1 << 30, "when_full": "refuse"}, "raise max-size"),
    ],
)
def test_what_is_too_large_is_told_with_the_way_out(
    settings: Settings, limits: dict[str, object], way: str
) -> None:
    async def main() -> None:
        async with batched(settings(**limits)) as storage:
            with pytest.raises(StoreFull) as raised:
                await storage.pinning.open(OWNER, wants=5 * MIB)
            start, end = str(raised.value).split(": ")
            assert start.startswith("5 MiB are to come, and there is room to keep ")
            assert end == way

    asyncio.run(main())


def test_what_a_pin_lends_is_lent_and_nothing_else(settings: Settings) -> None:
    both, public, private = (make_blocks(5, seed=seed) for seed in range(3))
    names = [*both, *public, *private]

    async def main() -> None:
        async with batched(settings()) as storage:
            await pinned(storage, both | private, "private")
            await pinned(storage, both | public, "public", lend=True)
            await lent_within_seconds(storage, names, [True] * 10 + [False] * 5)
            assert await lent(storage, names[::-1]) == [False] * 5 + [True] * 10
            await storage.pinning.change(OWNER, name="public", lend=False)
            await lent_within_seconds(storage, names, [False] * 15)
            await storage.pinning.change(OWNER, name="private", lend=True)
            await lent_within_seconds(storage, names, [True] * 5 + [False] * 5 + [True] * 5)
            await storage.pinning.release(OWNER, name="private")
            await lent_within_seconds(storage, names, [False] * 15)

    asyncio.run(main())


def test_what_is_abandoned_so_is_lent_and_counts_for_nobody(settings: Settings) -> None:
    public, private = make_blocks(60), make_blocks(3, seed=1)
    names = [*public, *private]

    async def main() -> None:
        async with batched(settings(max_pinned=64 * 1024)) as storage:
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(public.values()), pin)
            with pytest.raises(StoreFull):
                await storage.pinning.open(OWNER, wants=30 * 1024)
            assert await storage.pinning.abandon(pin, lend=True) == 60
            other = await storage.pinning.open(OWNER, wants=30 * 1024)
            await under_pin(storage, list(private.values()), other)
            assert await storage.pinning.abandon(other) == 0
            await lent_within_seconds(storage, names, [True] * 60 + [False] * 3)
        async with batched(settings()) as storage:
            assert await lent(storage, names) == [True] * 60 + [False] * 3
        async with batched(settings(lend_cache=False)) as storage:
            assert await lent(storage, names) == [False] * 63
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(private.values()), pin)
            assert await storage.pinning.abandon(pin, lend=True) == 0

    asyncio.run(main())


def test_what_comes_for_a_pin_that_lends_is_lent(settings: Settings) -> None:
    blocks = make_blocks(3)

    async def main() -> None:
        async with batched(settings()) as storage:
            pin = await storage.pinning.open(OWNER)
            await storage.pinning.want(pin, list(blocks))
            await storage.pinning.close(pin, name="a", lend=True, incomplete=True)
            assert await lent(storage, list(blocks)) == [False] * 3
            await put(storage, blocks)
            await lent_within_seconds(storage, list(blocks), [True] * 3)

    asyncio.run(main())
