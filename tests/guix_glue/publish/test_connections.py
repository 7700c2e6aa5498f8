"""What clients may take: connections, and time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from kapla.http.serving.connections import ConnectionLimits
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.publish.fakes import HASH, Echo
from tests.guix_glue.publish.serving import NEVER, REQUEST, SLOW, SlowEcho, serving

SOON = 30.0


def test_half_a_request_is_given_up_and_an_idle_client_is_not() -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(head_s=SOON, idle_s=NEVER), Echo()) as connect:
            idle = await connect()
            assert b"StoreDir" in await idle.ask()
            for sent in (b"", b"G", REQUEST[:-2]):
                client = await connect()
                await client.send(sent)
                assert await clock.skip_until(client.ended(), SOON)
            # Also if it is not the first.
            client = await connect()
            await client.ask()
            await client.send(REQUEST[:-1])
            assert await clock.skip_until(client.ended(), SOON)
            assert b"StoreDir" in await idle.ask()

    run_on_clock(main)


def test_a_request_by_drops_is_given_up() -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(head_s=SOON, idle_s=NEVER), Echo()) as connect:
            client = await connect()

            async def drip() -> None:
                await client.send(REQUEST[:-2])
                while True:
                    await client.send(b"x: y\r\n")
                    await asyncio.sleep(SOON / 20)

            dripping = asyncio.create_task(drip())
            assert await clock.skip_until(client.ended(), SOON / 20)
            dripping.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await dripping

    run_on_clock(main)


def test_a_reply_may_take_longer_than_a_request() -> None:
    async def main(clock: Clock) -> None:
        source = SlowEcho()
        async with serving(ConnectionLimits(head_s=SOON, idle_s=NEVER), source) as connect:
            patient = await connect()
            await patient.send(SLOW)
            await source.asked.wait()
            # The beginning of the next request, for which there is all the time of the reply.
            await patient.send(REQUEST[:9])
            other = await connect()
            assert await clock.skip_until(other.ended(), SOON)
            source.go_on.set()
            assert HASH.encode() in await patient.reply()
            assert b"StoreDir" in await patient.ask(REQUEST[9:])

    run_on_clock(main)


def test_an_idle_client_is_given_up() -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(head_s=NEVER, idle_s=SOON), Echo()) as connect:
            client = await connect()
            assert b"StoreDir" in await client.ask()
            assert await clock.skip_until(client.ended(), SOON)

    run_on_clock(main)


def test_one_client_more_takes_the_place_of_the_longest_idle() -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(3, NEVER, NEVER), Echo()) as connect:
            first, second, third = [await connect() for _ in range(3)]
            for client in (third, first, second):
                await client.ask()
            fourth = await connect()
            assert b"StoreDir" in await fourth.ask()
            assert await third.ended()
            for client in (first, second, fourth):
                assert b"StoreDir" in await client.ask()

    run_on_clock(main)


def test_who_has_waited_longest_for_an_answer_makes_room_if_nobody_else_can() -> None:
    async def main(clock: Clock) -> None:
        source = SlowEcho()
        async with serving(ConnectionLimits(2, NEVER, NEVER), source) as connect:
            first = await connect(SLOW)
            await source.asked.wait()
            source.asked.clear()
            second = await connect(SLOW)
            await source.asked.wait()
            third = await connect()
            assert b"StoreDir" in await third.ask()
            assert await first.ended()
            # And then somebody else can.
            fourth = await connect()
            assert b"StoreDir" in await fourth.ask()
            assert await third.ended()
            source.go_on.set()
            assert HASH.encode() in await second.reply()

    run_on_clock(main)
