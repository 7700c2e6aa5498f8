"""The map of a publisher: written into its store, pinned, and told of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import click
import pytest

from eris import MemoryStore, ReadCapability
from eris.errors import StoreUnavailable
from eris.transfer import get_content
from guix_glue.cli.eris_options import eris_settings
from guix_glue.formats.item_map import Contents, MapFacts
from guix_glue.publish.item_pins import MAP_KEY, PinnedItem
from guix_glue.publish.model import ErisTarget, PublishOptions
from guix_glue.publish.pin_care import PinCare
from guix_glue.publish.published_map import PublishedMap
from guix_glue.publish.site import Site
from guix_glue.publish.tree_formats import PackedTrees
from guix_glue.serving.reply import Request
from tests.guix_glue.maps.entries import a_urn, hash_parts
from tests.guix_glue.publish.fakes import HASH, URN, Echo
from tests.guix_glue.publish.test_pin_care import HOUR_S, Pins


class Known:
    """URNs of items that were baked, or a failure."""

    def __init__(self, urns: Mapping[str, str]) -> None:
        self.known = dict(urns)
        self.failure: Exception | None = None
        self.asked: asyncio.Queue[int] = asyncio.Queue()

    async def urns(self) -> Mapping[str, str]:
        self.asked.put_nowait(0)
        if self.failure is not None:
            raise self.failure
        return self.known

    async def withdraw(self, key: str) -> None:
        raise AssertionError(key)


def some(count: int) -> dict[str, str]:
    return {hash_part: a_urn(number) for number, hash_part in enumerate(hash_parts(count))}


def published(known: Known, store: MemoryStore) -> tuple[PublishedMap, Pins]:
    pins = Pins(store)
    target = ErisTarget(store, "id", PackedTrees(19), pins=pins, explain=lambda error: "is full")
    return PublishedMap(known, target, pins, "/gnu/store"), pins


async def read(store: MemoryStore, urn: str | None) -> Contents:
    assert urn is not None
    return Contents.parse(await get_content(store, ReadCapability.from_urn(urn)))


def test_it_holds_all_items_and_no_delta() -> None:
    async def run() -> None:
        store = MemoryStore()
        urns = some(500)
        deltas = {f"{one}+{one}": a_urn(9) for one in list(urns)[:3]}
        made, pins = published(Known(urns | deltas), store)
        await made.write()
        contents = await read(store, made.urn)
        assert contents.facts == MapFacts("/gnu/store", "kapla-packed-1 level 19")
        assert {one: contents.find(one) for one in urns} == urns
        assert len(contents) == 500
        assert made.urn is not None
        root = ReadCapability.from_urn(made.urn).root.reference
        assert [(pin.key, pin.root) for pin in pins.kept.values()] == [(MAP_KEY, root)]

    asyncio.run(run())


def test_another_takes_its_place_and_the_same_stays_the_same() -> None:
    async def run() -> None:
        store = MemoryStore()
        known = Known(some(3))
        made, pins = published(known, store)
        await made.write()
        first = made.urn
        await made.write()
        assert made.urn == first
        known.known = some(4)
        await made.write()
        assert made.urn != first
        assert len(await read(store, made.urn)) == 4
        assert list(pins.kept) == [MAP_KEY]
        assert pins.kept[MAP_KEY].root == ReadCapability.from_urn(made.urn or "").root.reference

    asyncio.run(run())


def test_nothing_is_no_map() -> None:
    async def run() -> None:
        made, pins = published(Known({}), MemoryStore())
        await made.write()
        assert made.urn is None
        assert not pins.kept

    asyncio.run(run())


def test_a_failure_is_said_once_and_the_map_from_before_stays(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guix_glue.publish.published_map._PERIOD_S", 0.0)
    monkeypatch.setattr("guix_glue.publish.published_map._AGAIN_S", 0.0)

    async def run() -> None:
        known = Known(some(2))
        made, _ = published(known, MemoryStore())
        async with made.kept():
            # Asked once more, it has written the first one.
            for _ in range(2):
                await known.asked.get()
            before = made.urn
            assert before is not None
            known.failure = StoreUnavailable("coap://host/secret is down")
            for _ in range(5):
                await known.asked.get()
        assert made.urn == before

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert caplog.text.count("The map is not written for now: the store is full") == 1
    assert "secret" not in caplog.text
    assert "urn:eris" not in caplog.text


def test_whoever_looks_after_pins_leaves_that_of_the_map_alone() -> None:
    async def run(besides: frozenset[str]) -> Sequence[str]:
        pins = Pins(MemoryStore())
        pins.kept[MAP_KEY] = PinnedItem(MAP_KEY, None, 9 * HOUR_S, 0)
        await PinCare(pins, Known({}), besides=besides)()
        return list(pins.kept)

    assert asyncio.run(run(frozenset({MAP_KEY}))) == [MAP_KEY]
    # One that is not written any more goes.
    assert asyncio.run(run(frozenset())) == []


def test_the_option_is_for_a_store() -> None:
    others = {"eris_format": None, "eris_level": None, "deltas": None}
    for eris in (None, ""):
        with pytest.raises(click.UsageError, match="--map is for"):
            eris_settings(eris=eris, wants_map=True, **others)
        assert eris_settings(eris=eris, wants_map=None, **others).map is None
        assert eris_settings(eris=eris, wants_map=False, **others).map is False


def test_what_is_answered_over_http() -> None:
    async def run() -> None:
        made, _ = published(Known(some(2)), MemoryStore())
        options = PublishOptions("/gnu/store", ())
        site = Site(Echo(), options, public_key=None, eris=True, published_map=made)
        without = Site(Echo(), options, public_key=None, eris=True)

        async def ask(path: str, one: Site = site) -> tuple[int, object]:
            reply = await one.answer(Request("GET", path))
            return reply.status, reply.body

        assert await ask(f"/map/{HASH}") == (200, f"{URN}\n".encode())
        assert (await ask(f"/map/{'0' * 32}"))[0] == 404
        assert (await ask("/map/nonsense"))[0] == 404
        assert (await ask("/map.urn"))[0] == 404
        await made.write()
        assert await ask("/map.urn") == (200, f"{made.urn}\n".encode())
        assert (await ask("/map.urn", without))[0] == 404
        reply = await site.answer(Request("GET", "/map.urn"))
        assert reply.max_age_s == options.unbaked_age_s

    asyncio.run(run())
