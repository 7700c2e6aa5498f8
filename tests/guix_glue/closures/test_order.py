"""Closures, and the order of items in them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from guix_glue.closures.order import closure_of, in_order
from guix_glue.errors import InvalidFacts, InvalidItems
from guix_glue.model import StoreItem


def item(letter: str, *references: str) -> StoreItem:
    names = tuple(f"{one * 32}-{one}" for one in references)
    return StoreItem(f"/gnu/store/{letter * 32}-{letter}", bytes(32), 1, names)


class FewItems:
    """A store of some items."""

    store_dir = "/gnu/store"

    def __init__(self, items: Sequence[StoreItem]) -> None:
        self._items = {one.hash_part: one for one in items}

    async def find(self, hash_part: str) -> StoreItem | None:
        return self._items.get(hash_part)

    async def valid(self, path: str) -> bool:
        return any(one.path == path for one in self._items.values())

    def location(self, item: StoreItem) -> str:
        return item.path

    def doubt(self, item: StoreItem) -> None:
        pass

    async def close(self) -> None:
        pass


A, B, C, D = item("a", "a"), item("b", "a"), item("c", "a", "b"), item("d", "c", "b", "d")


def test_what_is_referred_to_comes_first() -> None:
    assert in_order([D, C, B, A]) == [A, B, C, D] == in_order([A, B, C, D])


def test_what_is_not_among_them_is_no_matter() -> None:
    assert in_order([D, B]) == [B, D]


def test_references_that_go_round() -> None:
    with pytest.raises(InvalidFacts, match="in a circle"):
        in_order([item("a", "b"), item("b", "c"), item("c", "a")])


def test_a_closure() -> None:
    items = FewItems([A, B, C, D, item("f")])
    assert asyncio.run(closure_of(items, [D])) == [A, B, C, D]
    assert asyncio.run(closure_of(items, [B, A])) == [A, B]


def test_a_reference_that_is_not_there() -> None:
    with pytest.raises(InvalidItems, match=r"d{32}-d refers to b{32}-b, which is not here"):
        asyncio.run(closure_of(FewItems([A, C, D]), [D]))


def test_a_long_chain_takes_no_recursion() -> None:
    letters = "0123456789abcdfghijklmnpqrsvwxyz"
    names = [f"{first}{second}" * 16 + "-x" for first in letters for second in letters]
    chain = [
        StoreItem(f"/gnu/store/{name}", bytes(32), 1, tuple(names[place + 1 : place + 2]))
        for place, name in enumerate(names)
    ]
    assert [one.base_name for one in in_order(chain)] == names[::-1]
