"""What clients of the door may take: connections, time, a rate; and what is kept for them."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
from collections.abc import Callable

import pytest

from eris.errors import StoreUnavailable
from kapla.coap.allowance import Allowance, Prices
from kapla.coap.rate import ByteRate, Rate
from kapla.http.serving.connections import ConnectionLimits
from tests.clocks import Clock, run_on_clock
from tests.kapla.coap.harness import LARGE, SMALL, MemoryStorage
from tests.kapla.http.doors import Door, a_batch, a_door, a_get

NEVER = 1e9
SOON = 30.0


def lent(count: int = 1, large: bool = False, *, hold: bool = False) -> MemoryStorage:
    one = LARGE if large else SMALL
    blocks = [number.to_bytes(4, "big") + one[4:] for number in range(count)]
    storage = MemoryStorage(blocks, hold=hold)
    storage.lent = set(storage.blocks)
    return storage


async def until(condition: Callable[[], bool]) -> None:
    """Nobody announces this."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_requests_behind_each_other_are_answered_in_order() -> None:
    async def main(clock: Clock) -> None:
        storage = lent(50)
        async with a_door(storage) as door:
            client = await door(*(a_get(name) for name in storage.blocks))
            for block in storage.blocks.values():
                assert (await client.reply()).endswith(b"\r\n\r\n" + block)
            assert door.statistics.get == 50

    run_on_clock(main)


def test_half_a_head_and_half_a_body_are_given_up() -> None:
    async def main(clock: Clock) -> None:
        storage = lent()
        (name,) = storage.blocks
        limits = ConnectionLimits(head_s=SOON, idle_s=NEVER)
        async with a_door(storage, limits) as door:
            idle = await door()
            assert await idle.ask(a_get(name))
            for sent in (b"", b"GET ", a_get(name)[:-1], a_batch([name])[:-1]):
                client = await door(sent)
                assert await clock.skip_until(client.ended(), SOON)
            assert await idle.ask(a_get(name))

    run_on_clock(main)


def test_when_there_are_too_many_who_holds_a_place_only_must_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(clock: Clock) -> None:
        storage = lent()
        (name,) = storage.blocks
        async with a_door(storage, ConnectionLimits(4)) as door:
            silent = [await door() for _ in range(4)]
            for _ in range(20):
                client = await door()
                assert await client.ask(a_get(name))
            assert await silent[0].ended()
            await until(lambda: door.statistics.open_connections <= 4)
            assert door.statistics.connections == 24

    caplog.set_level(logging.INFO)
    run_on_clock(main)
    assert len(caplog.records) == 1
    assert "127.0.0.1" not in caplog.text


def test_who_does_not_send_the_body_holds_a_place_only() -> None:
    async def main(clock: Clock) -> None:
        storage = lent()
        (name,) = storage.blocks
        async with a_door(storage, ConnectionLimits(4, head_s=NEVER, idle_s=NEVER)) as door:
            halves = [await door(a_batch([name])[:-1]) for _ in range(3)]
            await until(lambda: door.statistics.open_connections == 3)
            mine = await door()
            assert await mine.ask(a_get(name))
            newcomer = await door()
            assert await newcomer.ask(a_get(name))
            assert await halves[0].ended()
            assert await mine.ask(a_get(name))

    run_on_clock(main)


def test_a_body_that_is_cut_off_is_not_waited_for() -> None:
    async def main(clock: Clock) -> None:
        storage = lent()
        (name,) = storage.blocks
        async with a_door(storage) as door:
            for before in (b"", a_get(name)):
                client = await door(before + a_batch([name])[:-1])
                client.socket.shutdown(1)
                # On a clock that stands still.
                received = await client.rest()
                assert received.count(b"HTTP/1.1 200 OK") == bool(before)
                assert received.count(b"HTTP/1.1 400 ") == 1
            await until(lambda: not door.statistics.open_connections)

    run_on_clock(main)


def test_a_body_that_makes_no_sense_is_not_waited_for() -> None:
    async def main(clock: Clock) -> None:
        async with a_door(lent()) as door:
            head = b"POST /kapla/blocks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            for waits in range(4):
                client = await door(head)
                await until(lambda: door.statistics.open_connections == 1)
                for _ in range(waits):
                    await asyncio.sleep(0)
                await client.send(b"zz\r\n")
                # On a clock that stands still.
                assert b" 400 " in await client.rest()
                await until(lambda: not door.statistics.open_connections)

    run_on_clock(main)


def test_who_takes_nothing_is_kept_one_part_and_then_sent_away() -> None:
    async def main(clock: Clock) -> None:
        storage = lent(256, large=True)
        async with a_door(storage, ConnectionLimits(window_s=SOON)) as door:
            client = await door(a_batch(storage.blocks))
            await client.more(1)
            looked_up = -1
            while looked_up != len(storage.batches):
                looked_up = len(storage.batches)
                await asyncio.sleep(0.05)
            # What the kernels of both ends keep is not ours.
            assert sum(count for _, count in storage.batches) < 256
            await clock.skip_until(until(lambda: not door.statistics.open_connections), SOON / 4)
            assert len(storage.batches) == looked_up

    run_on_clock(main)


def test_what_waits_to_be_taken_is_kept_once() -> None:
    async def main(clock: Clock) -> None:
        storage = lent(256, large=True)
        async with a_door(storage) as door:
            client = await door()
            # What is in the store is not counted.
            tracemalloc.start()
            await client.send(a_batch(storage.blocks))
            await client.more(1)
            looked_up = -1
            while looked_up != len(storage.batches):
                looked_up = len(storage.batches)
                await asyncio.sleep(0.05)
            kept, _ = tracemalloc.get_traced_memory()
            # One piece in the making, and what asyncio keeps of another.
            assert kept < 512 * 1024

    try:
        run_on_clock(main)
    finally:
        tracemalloc.stop()


def test_the_more_are_connected_the_less_is_looked_up_at_once() -> None:
    async def main(clock: Clock) -> None:
        storage = lent(256)
        async with a_door(storage) as door:
            for others, parts in ((0, [32, 64, 128, 32]), (1, [32, 64, 128, 32]), (20, [32] * 8)):
                for _ in range(others):
                    await (await door()).ask(a_get(next(iter(storage.blocks))))
                storage.batches.clear()
                client = await door(a_batch(storage.blocks))
                client.socket.shutdown(1)
                assert (await client.rest()).endswith(b"0\r\n\r\n")
                assert [count for _, count in storage.batches] == parts

    run_on_clock(main)


def test_what_is_asked_for_somebody_who_has_gone_is_not_wanted() -> None:
    async def main(clock: Clock) -> None:
        storage = lent(hold=True)
        (name,) = storage.blocks
        async with a_door(storage) as door:
            for sent in (a_get(name), a_batch([name])):
                client = await door(sent)
                await until(lambda: bool(storage.held))
                assert storage.wanted[-1]()
                client.reset()
                await until(lambda: not door.statistics.open_connections)
                assert not storage.wanted[-1]()
                storage.deliver()
            assert door.statistics.open_connections == 0

    run_on_clock(main)


def test_strangers_share_a_rate_by_http_too() -> None:
    async def main(clock: Clock) -> None:
        storage = lent(4, large=True)
        names = list(storage.blocks)
        given = ByteRate(64 * 1024, clock.time)
        allowance = Allowance(given, None, Prices(1, 16))
        async with a_door(storage, allowance=allowance) as door:
            first, second = await door(), await door()
            for _ in range(2):
                assert await first.ask(a_get(names[0]))
            # That was what a second has; the next one is on its way when there is more.
            began = clock.time()
            await clock.skip_until(second.ask(a_get(names[1])), 0.2)
            await clock.skip_until(first.ask(a_get(names[2])), 0.2)
            assert clock.time() - began >= 0.4
            assert allowance.blocks == 4
            assert allowance.block_bytes == 4 * 32768

    run_on_clock(main)


def test_what_was_asked_for_and_not_given_is_given_back() -> None:
    async def main(clock: Clock) -> None:
        storage = lent(hold=True)
        (name,) = storage.blocks
        presence = Rate(1.0, 64.0, 64, clock.time)
        allowance = Allowance(None, presence, Prices(1, 16))
        async with a_door(storage, allowance=allowance) as door:
            # Each may be a miss until it is known; whoever goes away has used up nothing.
            for _ in range(12):
                client = await door(a_get(name))
                await until(lambda: bool(storage.held))
                client.reset()
                await until(lambda: not door.statistics.open_connections)
                storage.deliver()
            storage.hold = False
            client = await door()
            for _ in range(12):
                assert b"200 OK" in await client.ask(a_get(name))
            head = a_get(name).replace(b"GET", b"HEAD")
            await client.send(head)
            await client.more()

    run_on_clock(main)


def test_what_is_not_here_costs_the_budget_of_all() -> None:
    async def main(clock: Clock) -> None:
        storage = MemoryStorage()
        missing = next(iter(lent().blocks))
        allowance = Allowance(None, Rate(16.0, 64.0, 64, clock.time), Prices(1, 16))
        async with a_door(storage, allowance=allowance) as door:
            client = await door()
            began = clock.time()
            for _ in range(4):
                assert b" 404 " in await client.ask(a_get(missing))
            assert b" 404 " in await clock.skip_until(client.ask(a_get(missing)), 0.5)
            assert clock.time() - began >= 0.5

    run_on_clock(main)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_requests_come_in_pieces(size: int) -> None:
    async def main(clock: Clock) -> None:
        storage = lent(2)
        names = list(storage.blocks)
        sent = a_get(names[0]) + a_batch(names) + a_get(names[1])
        async with a_door(storage) as door:
            client = await door()
            for start in range(0, len(sent), size):
                await client.send(sent[start : start + size])
            client.socket.shutdown(1)
            received = await client.rest()
            assert received.count(b"HTTP/1.1 200 OK") == 3
            assert received.endswith(storage.blocks[names[1]])
            assert storage.batches == [("get", 1), ("get", 2), ("get", 1)]

    run_on_clock(main)


def test_a_store_that_fails_is_told_before_the_answer_or_ends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(clock: Clock) -> None:
        storage = lent(64)
        names = list(storage.blocks)
        async with a_door(storage) as door:
            client = await door()
            storage.failure = StoreUnavailable("the disk is gone")
            for request in (a_get(names[0]), a_batch(names)):
                reply = await client.ask(request)
                assert b" 503 " in reply and b"disk" not in reply
            storage.failure = None
            storage.hold = True
            client = await door(a_batch(names))
            await until(lambda: bool(storage.held))
            storage.deliver()
            await until(lambda: bool(storage.held))
            storage.failure = StoreUnavailable("the disk is gone")
            storage.deliver()
            received = await client.rest()
            assert b"200 OK" in received
            # Not the end of an answer in chunks.
            assert not received.endswith(b"0\r\n\r\n")

    caplog.set_level(logging.INFO)
    run_on_clock(main)
    assert not caplog.records


async def _storm(door: Door, request: bytes) -> None:
    for _ in range(30):
        client = await door(request)
        client.reset()


def test_a_storm_of_resets_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: Clock) -> None:
        storage = lent(64, large=True)
        names = list(storage.blocks)
        async with a_door(storage, ConnectionLimits(16)) as door:
            requests = (
                a_get(names[0]),
                a_batch(names),
                a_batch(names)[:-1],
                b"\0",
                a_get(names[0])[:9],
            )
            await asyncio.gather(*(_storm(door, request) for request in requests))
            await until(lambda: not door.statistics.open_connections)
            assert door.statistics.connections == 150
            client = await door()
            assert await client.ask(a_get(names[0]))

    caplog.set_level(logging.INFO)
    run_on_clock(main)
    assert not [record for record in caplog.records if record.exc_info], caplog.text
