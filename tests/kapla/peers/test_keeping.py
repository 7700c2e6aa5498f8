"""What peers gave is kept together, without holding up whoever waits; none is counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from eris import reference_of
from eris.errors import ErisError, StoreFull, StoreUnavailable
from eris.model import Reference
from kapla.peers.keeping import KeepDone, Keeper
from tests.clocks import run_without_waiting

MIB = 1 << 20


def block(number: int, size: int = 1024) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


class Store:
    """Keeps when the test says; remembers what it was handed together."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once = at_once
        self.handed: list[tuple[dict[Reference, bytes], bool]] = []
        self.waiting: list[KeepDone] = []

    def keep(
        self, blocks: Mapping[Reference, bytes], done: KeepDone, *, lend: bool, group: object
    ) -> None:
        self.handed.append((dict(blocks), lend))
        self.waiting.append(done)
        if self.at_once:
            self.answer()

    def answer(self, result: Sequence[ErisError | None] | ErisError | None = None) -> None:
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(result)

    @property
    def kept(self) -> dict[Reference, bool]:
        return {name: lend for blocks, lend in self.handed for name in blocks}


def played(main: Callable[[], Awaitable[None]]) -> None:
    run_without_waiting(main)


def keep(keeper: Keeper, one: bytes, then: list[bytes], *, lent: bool = False) -> None:
    keeper.keep(reference_of(one), one, is_lent=lent, then=lambda: then.append(one))


def test_blocks_that_come_together_are_kept_together_and_given_before() -> None:
    async def main() -> None:
        store, given = Store(), list[bytes]()
        keeper = Keeper(store)
        for number in range(20):
            keep(keeper, block(number), given)
        assert len(given) == 20
        assert keeper.held(reference_of(block(3))) == (block(3), False)
        await asyncio.sleep(1)
        assert len(store.handed) == 1
        store.answer()
        assert keeper.held(reference_of(block(3))) is None

    played(main)


def test_each_is_lent_as_it_came() -> None:
    async def main() -> None:
        store, given = Store(at_once=True), list[bytes]()
        keeper = Keeper(store)
        for number in range(20):
            keep(keeper, block(number), given, lent=number % 3 == 0)
        await asyncio.sleep(1)
        assert store.kept == {reference_of(block(n)): n % 3 == 0 for n in range(20)}

    played(main)


@pytest.mark.parametrize("result", [None, StoreUnavailable("no"), [StoreFull("no")]])
def test_who_comes_faster_than_the_disk_waits_for_it_and_goes_on_whatever_becomes_of_it(
    result: Sequence[ErisError | None] | ErisError | None,
) -> None:
    async def main() -> None:
        store, given = Store(), list[bytes]()
        keeper = Keeper(store)
        for number in range(400):
            keep(keeper, block(number, 32768), given)
        assert 8 * MIB <= sum(map(len, given)) < 9 * MIB
        await asyncio.sleep(1)
        store.answer(result)
        assert sorted(given) == [block(number, 32768) for number in range(400)]
        keep(keeper, block(500), given)
        assert given[-1] == block(500)

    played(main)


def test_the_same_block_again_and_again_is_counted_once() -> None:
    """Two askers may bring it at once; else all would wait for the disk for ever after."""

    async def main() -> None:
        store, given = Store(), list[bytes]()
        keeper = Keeper(store)
        for _ in range(200):
            for number in range(4):
                keep(keeper, block(number, 32768), given, lent=bool(number % 2))
                keep(keeper, block(number, 32768), given, lent=bool(number % 2))
                keep(keeper, block(number, 32768), given)
            await asyncio.sleep(0.01)
            store.answer()
        assert len(given) == 200 * 12
        before = len(given)
        keep(keeper, block(7), given)
        assert len(given) == before + 1

    played(main)


def test_a_block_is_held_until_the_last_that_keeps_it_is_done() -> None:
    async def main() -> None:
        store, given = Store(), list[bytes]()
        keeper = Keeper(store)
        name = reference_of(block(1))
        keep(keeper, block(1), given)
        await asyncio.sleep(0.01)
        (first,) = store.waiting
        keep(keeper, block(1), given, lent=True)
        first(None)
        # One of the two is there; the other says that it may be lent.
        assert keeper.held(name) == (block(1), True)
        await asyncio.sleep(0.01)
        store.answer()
        assert keeper.held(name) is None

    played(main)


def test_what_is_gathered_is_handed_on_at_once_where_it_ends() -> None:
    async def main() -> None:
        store, given = Store(), list[bytes]()
        keeper = Keeper(store)
        keep(keeper, block(1), given)
        assert not store.handed
        keeper.flush()
        assert [set(blocks) for blocks, _ in store.handed] == [{reference_of(block(1))}]
        await asyncio.sleep(1)
        assert len(store.handed) == 1

    played(main)
