"""Three daemons over one database, and commands that spread over them: what all must agree on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from eris import BlockSize, Reference, reference_of
from kapla.client import RemoteStore, open_store
from kapla.urls import parse_store_url
from tests.integration.commands import Kapla, blocks_of, report
from tests.integration.daemon import Daemon, running_daemon, wait_until

MIB = 1024 * 1024
FRONTS = 3


class Fleet:
    """The daemons, and a user whose commands go to one or all of them."""

    def __init__(self, daemons: list[Daemon], home: Path) -> None:
        self.daemons, self._home = daemons, home

    @property
    def all(self) -> Kapla:
        """Whose store is the group of all."""
        return Kapla(self._home, "|".join(daemon.url for daemon in self.daemons))

    def at(self, number: int) -> Kapla:
        """Whose store is one of them."""
        return Kapla(self._home, self.daemons[number].url)

    def reports(self) -> list[dict[str, Any]]:
        """What each says that there is."""
        return [report(self.at(number)) for number in range(FRONTS)]


@pytest.fixture
def settings() -> dict[str, str]:
    """Of all daemons; a test that wants some has a fixture of this name in its class."""
    return {}


@pytest.fixture
def fleet(tmp_path: Path, postgres_url: str, settings: dict[str, str]) -> Iterator[Fleet]:
    home = tmp_path / "home"
    home.mkdir()
    with ExitStack() as stack:
        daemons = []
        for number in range(FRONTS):
            directory = tmp_path / str(number)
            directory.mkdir()
            running = running_daemon(directory, "--store", postgres_url, env=settings)
            daemons.append(stack.enter_context(running))
        yield Fleet(daemons, home)


def content(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def encode(kapla: Kapla, data: bytes, *options: str) -> str:
    return kapla.out("encode", "--no-cache", "--no-catalogue", *options, "-", stdin=data).strip()


def test_whoever_is_asked_tells_of_all_that_all_were_given(fleet: Fleet) -> None:
    contents = [content(number, 300_000) for number in range(FRONTS)]
    # The last one comes by all of them, and by one again.
    contents += [content(9, 2 * MIB), contents[0]]
    users = [*map(fleet.at, range(FRONTS)), fleet.all, fleet.at(2)]
    urns = [encode(user, data) for user, data in zip(users, contents, strict=True)]
    wanted = {name for data in contents for name in blocks_of(data, BlockSize.LARGE)}
    reports = fleet.reports()
    assert [one["blocks"] for one in reports] == [{"1024": 0, "32768": len(wanted)}] * FRONTS
    assert sum(one["new_blocks"] for one in reports) == len(wanted)
    pins = [fleet.at(number).out("pins", "--json") for number in range(FRONTS)]
    assert pins[1:] == pins[:-1]
    assert len(pins[0].splitlines()) == len(set(urns))
    for number, (urn, data) in enumerate(zip(urns, contents, strict=True)):
        assert fleet.at((number + 1) % FRONTS)("decode", urn, "-").stdout == data


class TestWithAQuota:
    """Of 2 MiB for the pins of one user, whichever daemon he asks."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"KAPLA_MAX_PINNED_BYTES": "2 MiB"}

    def test_what_is_pinned_at_one_counts_at_the_others(self, fleet: Fleet) -> None:
        first = encode(fleet.at(0), content(1, 3 * MIB // 2))
        refused = fleet.at(1)("encode", "--no-catalogue", "-", stdin=content(2, MIB), code=6)
        assert b"pin" in refused.stderr
        # What is let go at a third makes room at the second.
        fleet.at(2)("unpin", first)
        encode(fleet.at(1), content(2, MIB))


class TestWithACap:
    """Of 16 MiB; what nobody pins makes room."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"KAPLA_MAX_SIZE": "16 MiB", "KAPLA_MAX_PINNED_BYTES": "8 MiB"}

    def test_what_makes_room_is_gone_for_all_and_what_is_pinned_for_none(
        self, fleet: Fleet
    ) -> None:
        kept = content(1, MIB)
        urn = encode(fleet.at(0), kept)
        blocks = [content(100 + number, BlockSize.LARGE) for number in range(1200)]
        names = asyncio.run(put_spread(fleet, blocks))
        # More was put than there is room for, and what was put last is there.
        there = found_alike(fleet, names)
        assert not there[0]
        assert there[-1]
        wait_until(
            lambda: all(one["database_bytes"] <= 18 * MIB for one in fleet.reports()), "room"
        )
        evicted = [one["evicted_blocks"] for one in fleet.reports()]
        assert sum(evicted) > 0
        for number in range(FRONTS):
            assert fleet.at(number)("decode", "--force", urn, "-").stdout == kept


async def put_spread(fleet: Fleet, blocks: list[bytes]) -> list[Reference]:
    """Put blocks, one after another at each daemon in turn, 50 at once."""
    names = [reference_of(block) for block in blocks]
    async with _Opened(fleet) as stores:
        for start in range(0, len(blocks), 50):
            part = range(start, min(start + 50, len(blocks)))
            puts = [stores[place % FRONTS].put(names[place], blocks[place]) for place in part]
            await asyncio.gather(*puts)
    return names


async def found_by_all(fleet: Fleet, names: list[Reference]) -> list[list[bool]]:
    async with _Opened(fleet) as stores:
        return [
            [
                one
                for start in range(0, len(names), 500)
                for one in await store.find(names[start : start + 500])
            ]
            for store in stores
        ]


def found_alike(fleet: Fleet, names: list[Reference]) -> list[bool]:
    """What all find. Room is made after the last PUT, too: then who is asked later finds less."""
    found: list[list[bool]] = []

    def is_alike() -> bool:
        found[:] = asyncio.run(found_by_all(fleet, names))
        return found[0] == found[1] == found[2]

    wait_until(is_alike, "the same answer of all")
    return found[0]


class _Opened:
    """A store for each daemon."""

    def __init__(self, fleet: Fleet) -> None:
        self._stores = [RemoteStore(parse_store_url(one.url)) for one in fleet.daemons]

    async def __aenter__(self) -> list[RemoteStore]:
        for store in self._stores:
            await store.__aenter__()
        return self._stores

    async def __aexit__(self, *error: object) -> None:
        for store in self._stores:
            await store.close()


def test_no_request_is_lost_while_all_are_restarted_in_turn(fleet: Fleet) -> None:
    """Clients of the group put and get without a pause, and never see an error."""

    async def work(seed: int, is_over: asyncio.Event) -> list[Reference]:
        source = random.Random(seed)
        put: list[Reference] = []
        async with open_store(fleet.all.url, reconnect_s=60.0) as store:
            while not is_over.is_set():
                blocks = [source.randbytes(BlockSize.SMALL) for _ in range(20)]
                names = [reference_of(block) for block in blocks]
                await asyncio.gather(*map(store.put, names, blocks))
                put += names
                asked = source.sample(put, min(len(put), 20))
                found = await asyncio.gather(*[store.get(one, BlockSize.SMALL) for one in asked])
                assert [*map(reference_of, found)] == asked
        return put

    async def main() -> list[Reference]:
        is_over = asyncio.Event()
        working = [asyncio.create_task(work(seed, is_over)) for seed in range(3)]
        for daemon in fleet.daemons:
            await asyncio.to_thread(daemon.stop)
            await asyncio.to_thread(daemon.start)
        is_over.set()
        return [name for names in await asyncio.gather(*working) for name in names]

    names = asyncio.run(main())
    assert all(all(there) for there in asyncio.run(found_by_all(fleet, names)))
    counted = {"1024": len(set(names)), "32768": 0}
    assert [one["blocks"] for one in fleet.reports()] == [counted] * FRONTS
