"""What all pins hold together, against plain sets."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eris import BlockSize
from kapla.storage.pins import Sizes
from kapla.storage.sqlite.keeping.accounting import Accounts
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.pin import Pin
from tests.examples import examples

OWNERS = (1, 2)
# Some in the order of a store that has turned.
IDS = (*range(1, 40), *range(-(2**62), -(2**62) + 5))


def is_large(block_id: int) -> bool:
    """Blocks never change their size."""
    return block_id % 3 == 0


def size_of(block_id: int) -> int:
    return BlockSize.LARGE if is_large(block_id) else BlockSize.SMALL


def sizes_of(ids: set[int]) -> Sizes:
    large = sum(map(is_large, ids))
    return Sizes(len(ids) - large, large)


@dataclass
class Plain:
    """A pin as a set."""

    pin: Pin
    ids: set[int] = field(default_factory=set)

    def take(self, arrived: list[tuple[int, int]]) -> None:
        """As its row would be written."""
        self.ids = self.ids | {block_id for block_id, _ in arrived}
        self.pin = copy.deepcopy(self.pin)
        self.pin.take(arrived)
        if self.pin.sums is not None:
            self.pin.sums = sizes_of(self.ids)


def make_pin(number: int, owner: int, ids: set[int], *, is_sum: bool) -> Pin:
    pin = Pin(number, owner, f"{number}", None, True, False, 0)
    if is_sum:
        pin.small.add(ids)
        pin.sums = sizes_of(ids)
    else:
        pin.take([(block_id, size_of(block_id)) for block_id in ids])
    return pin


class Accounting(RuleBasedStateMachine):
    """Pins are made, changed, released, get blocks; and are counted anew."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts = Accounts()
        self.pins: dict[int, Plain] = {}
        self.number = 0

    def some_pin(self, data: st.DataObject) -> Plain:
        return self.pins[data.draw(st.sampled_from(sorted(self.pins)))]

    @rule(
        owner=st.sampled_from(OWNERS),
        ids=st.sets(st.sampled_from(IDS)),
        keep=st.booleans(),
        lend=st.booleans(),
        is_sum=st.booleans(),
    )
    def add(self, owner: int, ids: set[int], keep: bool, lend: bool, is_sum: bool) -> None:
        self.number += 1
        is_sum = is_sum and not any(plain.pin.sums for plain in self.pins.values())
        pin = make_pin(self.number, owner, ids, is_sum=is_sum)
        pin.keep, pin.lend = keep, lend
        self.pins[pin.id] = Plain(pin, ids)
        self.accounts.add(pin)

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        plain = self.some_pin(data)
        del self.pins[plain.pin.id]
        self.accounts.remove(plain.pin)

    @precondition(lambda self: self.pins)
    @rule(data=st.data(), keep=st.booleans(), lend=st.booleans())
    def switch(self, data: st.DataObject, keep: bool, lend: bool) -> None:
        plain = self.some_pin(data)
        after = replace(plain.pin, keep=keep, lend=lend)
        self.accounts.switch(plain.pin, after)
        plain.pin = after

    @precondition(lambda self: self.pins)
    @rule(data=st.data(), ids=st.sets(st.sampled_from(IDS)))
    def grow(self, data: st.DataObject, ids: set[int]) -> None:
        plain = self.some_pin(data)
        arrived = [(block_id, size_of(block_id)) for block_id in ids - plain.ids]
        self.accounts.grow(plain.pin, arrived)
        plain.take(arrived)

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """As eviction does: the ids are others, and all is counted anew."""
        plain = self.some_pin(data)
        ids, plain.ids = plain.ids, set()
        plain.pin.small, plain.pin.large = Ids(), Ids()
        if plain.pin.sums is not None:
            plain.pin.sums = Sizes()
        plain.take([(block_id, size_of(block_id)) for block_id in ids])
        self.recount()

    @rule()
    def recount(self) -> None:
        self.accounts = self.counted_anew()

    def counted_anew(self) -> Accounts:
        accounts = Accounts()
        for plain in self.pins.values():
            accounts.add(plain.pin)
        return accounts

    @invariant()
    def nothing_is_forgotten(self) -> None:
        for plain in self.pins.values():
            assert plain.ids <= set(self.accounts.all)
            assert plain.ids <= set(self.accounts.kept) or not plain.pin.keep
            assert plain.ids <= set(self.accounts.lent) or not plain.pin.lend

    @invariant()
    def it_is_exact_unless_it_says_otherwise(self) -> None:
        accounts, pins = self.accounts, self.pins.values()
        if accounts.is_stale:
            accounts = self.counted_anew()
        assert set(accounts.all) == {i for plain in pins for i in plain.ids}
        assert set(accounts.kept) == {i for plain in pins if plain.pin.keep for i in plain.ids}
        assert set(accounts.lent) == {i for plain in pins if plain.pin.lend for i in plain.ids}
        kept = {i for plain in pins if plain.pin.keep for i in plain.ids}
        assert accounts.kept_sizes() == sizes_of(kept)
        for plain in pins:
            others = {i for other in pins if other is not plain for i in other.ids}
            assert accounts.own(plain.pin) == sizes_of(plain.ids - others)
        for owner in OWNERS:
            mine = [plain for plain in pins if plain.pin.owner == owner and not plain.pin.sums]
            pinned = {i for plain in mine for i in plain.ids}
            assert accounts.pinned_by(owner) == sizes_of(pinned).bytes
            assert accounts.at_most_pinned_by(owner) >= sizes_of(pinned).bytes
            assert accounts.count_of(owner) == len(mine)


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=examples(40), stateful_step_count=25)


@given(st.lists(st.sets(st.sampled_from(IDS)), min_size=2, max_size=2), st.sets(st.integers(1, 39)))
def test_two_pins_over_everything_are_counted_together(
    sums: list[set[int]], held: set[int]
) -> None:
    accounts = Accounts()
    pins = [make_pin(n, 0, ids, is_sum=True) for n, ids in enumerate(sums)]
    for pin in pins:
        accounts.add(pin)
    for pin, ids, others in zip(pins, sums, reversed(sums), strict=True):
        assert sum(accounts.own(pin)) == len(ids - others)
    # At the most: how much of each size they share is not known.
    assert accounts.kept_sizes().bytes >= sizes_of(sums[0] | sums[1]).bytes
    hold = make_pin(9, 1, held, is_sum=False)
    assert accounts.pinned_by(1, [(hold.small, hold.large)]) == sizes_of(held).bytes
