"""What the publisher promises is pinned and whole, and nothing else is pinned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import eris_fs
from eris import MemoryStore, ReadCapability, Reference
from eris.transfer import put_content
from eris_fs.delta.framing import HEADER
from guix_glue.publish.item_pins import OpenedPin, PinnedItem
from guix_glue.publish.pin_care import PinCare
from tests.fakes import RecordingStore

HOUR_S = 3600.0


class Pins:
    """The pins of a store in memory; `lacks`: blocks that are not there, though they were."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.kept: dict[str, PinnedItem] = {}
        self.holds: dict[str, set[Reference]] = {}
        self.lacks: set[Reference] = set()
        self.supported = True
        self.open = 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[OpenedPin]:
        self.open += 1
        yield _Opened(self)
        self.open -= 1

    async def items(self) -> Sequence[PinnedItem] | None:
        return list(self.kept.values()) if self.supported else None

    async def release(self, hash_part: str) -> None:
        del self.kept[hash_part]


class _Opened:
    def __init__(self, pins: Pins) -> None:
        self.store = pins.store
        self._pins = pins
        self._held: set[Reference] = set()

    async def want(self, references: Sequence[Reference]) -> list[bool]:
        self._held |= set(references)
        found = await self.store.find(references)
        return [
            is_there and one not in self._pins.lacks
            for one, is_there in zip(references, found, strict=True)
        ]

    async def keep(self, hash_part: str, root: Reference) -> None:
        self._pins.kept[hash_part] = PinnedItem(hash_part, root, 0.0, 0)
        self._pins.holds[hash_part] = self._held


class Promised:
    """The URNs of a cache."""

    def __init__(self, **urns: str) -> None:
        self.known = urns
        self.withdrawn: list[str] = []

    async def urns(self) -> Mapping[str, str]:
        return dict(self.known)

    async def withdraw(self, hash_part: str) -> None:
        self.withdrawn.append(hash_part)
        del self.known[hash_part]


async def a_content(store: MemoryStore, seed: int) -> ReadCapability:
    return await put_content(store, bytes([seed]) * 1000 + bytes(range(256)) * 200)


def test_an_item_without_a_pin_gets_one_of_all_its_blocks(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "file").write_bytes(bytes(100_000))
        store = MemoryStore()
        recording = RecordingStore(store)
        urn = (await eris_fs.put_packed_tree(recording, tmp_path, level=1)).to_urn()
        pins, promised = Pins(store), Promised(item=urn)
        await PinCare(pins, promised)()
        assert pins.kept["item"].root == ReadCapability.from_urn(urn).root.reference
        assert pins.holds["item"] == set(recording.puts)
        assert not promised.withdrawn
        assert not pins.open

    asyncio.run(run())


def test_a_delta_without_a_pin_gets_one() -> None:
    async def run() -> None:
        store = MemoryStore()
        recording = RecordingStore(store)
        capability = await put_content(recording, HEADER + bytes(range(256)) * 200)
        pins, promised = Pins(store), Promised(**{"item+base": capability.to_urn()})
        await PinCare(pins, promised)()
        assert pins.holds["item+base"] == set(recording.puts)
        assert not promised.withdrawn

    asyncio.run(run())


def test_an_item_that_has_its_pin_is_left_alone() -> None:
    async def run() -> None:
        store = MemoryStore()
        capability = await a_content(store, 1)
        pins, promised = Pins(store), Promised(item=capability.to_urn())
        pins.kept["item"] = PinnedItem("item", capability.root.reference, 9 * HOUR_S, 0)
        await PinCare(pins, promised)()
        assert list(pins.kept) == ["item"]
        assert not pins.holds
        assert not promised.withdrawn

    asyncio.run(run())


@pytest.mark.parametrize("has_pin", [True, False])
def test_the_urn_of_an_item_that_lacks_blocks_is_withdrawn(
    has_pin: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        store = MemoryStore()
        whole, torn = await a_content(store, 1), await a_content(store, 2)
        pins = Pins(store)
        promised = Promised(whole=whole.to_urn(), torn=torn.to_urn())
        if has_pin:
            pins.kept["torn"] = PinnedItem("torn", torn.root.reference, 9 * HOUR_S, 3)
        else:
            pins.lacks = {torn.root.reference}
        with caplog.at_level(logging.WARNING):
            await PinCare(pins, promised)()
        assert promised.withdrawn == ["torn"]
        assert "1 items or deltas are made again" in caplog.text
        assert torn.to_urn() not in caplog.text
        assert pins.kept["whole"].missing == 0
        assert has_pin or "torn" not in pins.kept

    asyncio.run(run())


def test_a_pin_of_another_content_is_replaced() -> None:
    async def run() -> None:
        store = MemoryStore()
        old, new = await a_content(store, 1), await a_content(store, 2)
        pins, promised = Pins(store), Promised(item=new.to_urn())
        pins.kept["item"] = PinnedItem("item", old.root.reference, 9 * HOUR_S, 3)
        await PinCare(pins, promised)()
        assert pins.kept["item"].root == new.root.reference
        assert not promised.withdrawn

    asyncio.run(run())


def test_what_has_left_the_cache_is_released_but_not_what_may_be_on_its_way() -> None:
    async def run() -> None:
        pins = Pins(MemoryStore())
        left = PinnedItem("left", None, 9 * HOUR_S, 0)
        pins.kept = {"left": left, "young": replace(left, key="young", age_s=HOUR_S / 2)}
        await PinCare(pins, Promised())()
        assert list(pins.kept) == ["young"]

    asyncio.run(run())


def test_a_store_without_pins_changes_nothing() -> None:
    async def run() -> None:
        store = MemoryStore()
        pins, promised = Pins(store), Promised(item=(await a_content(store, 1)).to_urn())
        pins.supported = False
        pins.lacks = {ReadCapability.from_urn(promised.known["item"]).root.reference}
        await PinCare(pins, promised)()
        assert not promised.withdrawn
        assert not pins.kept

    asyncio.run(run())


def test_a_urn_that_is_none_is_withdrawn() -> None:
    async def run() -> None:
        promised = Promised(item="urn:eris:nonsense")
        await PinCare(Pins(MemoryStore()), promised)()
        assert promised.withdrawn == ["item"]

    asyncio.run(run())
