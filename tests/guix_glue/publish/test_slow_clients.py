"""Clients that take little of what they are sent, or nothing: who stays, and what they cost."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kapla.http.serving.connections import ConnectionLimits
from kapla.http.serving.taking import Taking
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.publish.serving import (
    FILE,
    NEVER,
    STREAM,
    Bodies,
    Client,
    Connect,
    serving,
)
from tests.guix_glue.publish.support import KEYS, make_item, publishing

MIB = 1024 * 1024
WINDOW_S = 120.0
BODIES = pytest.mark.parametrize("request_", [FILE, STREAM], ids=["file", "stream"])


async def silent(clock: Clock, connect: Connect, request: bytes) -> Client:
    """A client of whom the server has seen for a while that it takes nothing more."""
    client = await connect(request)
    await client.more(1)
    await clock.skip_until(asyncio.sleep(2), 1)
    return client


@BODIES
def test_whoever_takes_nothing_keeps_nobody_out(request_: bytes) -> None:
    async def main(clock: Clock) -> None:
        limits = ConnectionLimits(3, NEVER, NEVER, NEVER)
        async with serving(limits, source := Bodies(20 * MIB)) as connect:
            for _ in range(3):
                await silent(clock, connect, request_)
            while source.open_bodies:
                # They go one by one, and no client that is served does.
                assert b"StoreDir" in await (newcomer := await connect()).ask()
                await sleep_on(clock, 5)
                assert b"StoreDir" in await newcomer.ask()

    run_on_clock(main)


@BODIES
def test_whoever_makes_progress_stays(request_: bytes) -> None:
    async def main(clock: Clock) -> None:
        limits = ConnectionLimits(3, NEVER, NEVER, NEVER)
        async with serving(limits, Bodies(4 * MIB)) as connect:
            for _ in range(2):
                await silent(clock, connect, request_)
            reader = await connect(request_)
            reading = asyncio.create_task(reader.reply())
            # More and more who take nothing: they only take each other's places.
            while not reading.done():
                assert b"StoreDir" in await (await connect()).ask()
                await connect(request_)
            assert len((await reading).partition(b"\r\n\r\n")[2]) == 4 * MIB

    run_on_clock(main)


def test_of_those_that_make_progress_the_slowest_goes() -> None:
    async def main(clock: Clock) -> None:
        limits = ConnectionLimits(3, NEVER, NEVER, NEVER)
        async with serving(limits, Bodies(64 * MIB)) as connect:
            clients = [await connect(FILE) for _ in range(3)]

            async def read(client: Client, size: int) -> None:
                until = client.received + size
                while client.received < until:
                    await client.more()

            sizes = (2 * MIB, MIB, 3 * MIB)
            for _ in range(8):
                # All take something each second; the one in the middle least.
                await asyncio.gather(*map(read, clients, sizes))
                await sleep_on(clock, 1.0)
            await asyncio.gather(*map(read, clients, sizes))
            newcomer = await connect()
            assert b"StoreDir" in await newcomer.ask()
            await clients[1].rest()
            for client in (clients[0], clients[2]):
                await read(client, 4 * MIB)

    run_on_clock(main)


@BODIES
@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_a_slow_line_gets_all_of_a_large_nar(request_: bytes, over: str, tmp_path: Path) -> None:
    async def main(clock: Clock) -> None:
        size = 2 * MIB
        limits = ConnectionLimits(3, NEVER, NEVER, WINDOW_S)
        path = tmp_path / "socket" if over == "unix" else None
        async with serving(limits, Bodies(size), path) as connect:
            client = await connect(request_)
            reply = asyncio.create_task(client.reply())
            began = clock.time()
            client.pace = lambda: sleep_on(clock, 10.0)
            await reply
            # Many times what silence may last.
            assert clock.time() - began > 2 * WINDOW_S

    run_on_clock(main)


@BODIES
def test_whoever_takes_nothing_of_a_unix_socket_is_ended(request_: bytes, tmp_path: Path) -> None:
    async def main(clock: Clock) -> None:
        limits = ConnectionLimits(3, NEVER, NEVER, WINDOW_S)
        async with serving(limits, source := Bodies(MIB), tmp_path / "socket") as connect:
            client = await connect(request_)
            await client.more(1)
            assert source.open_bodies == 1
            while source.open_bodies:
                await sleep_on(clock, WINDOW_S / 8)

    run_on_clock(main)


async def sleep_on(clock: Clock, seconds: float) -> None:
    """Let time pass, all the same for everybody."""
    await clock.skip_until(asyncio.sleep(seconds), seconds / 2)


@BODIES
@pytest.mark.parametrize("drip", [0, 8192], ids=["nothing", "drops"])
def test_too_little_is_not_enough_and_one_line_tells_it(
    request_: bytes, drip: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(clock: Clock) -> None:
        limits = ConnectionLimits(3, NEVER, NEVER, WINDOW_S)
        async with serving(limits, source := Bodies(20 * MIB)) as connect:
            client = await connect(request_)

            async def until_it_is_closed() -> None:
                while source.open_bodies or not source.made + len(source.files):
                    if drip:
                        await client.more(drip)
                    await asyncio.sleep(WINDOW_S)

            await clock.skip_until(until_it_is_closed(), WINDOW_S / 8)
            client.close()

    caplog.set_level(logging.INFO)
    run_on_clock(main)
    (line,) = [one.getMessage() for one in caplog.records if "cut off" in one.getMessage()]
    assert line.startswith("A reply to 127.0.0.1 was cut off at ")
    assert line.endswith(f" of {20 * MIB} bytes: the client took too little of it")


def test_a_server_that_is_slow_holds_it_against_nobody() -> None:
    taking = Taking(0.0)
    for now in range(0, 1000, 10):
        taking.look(float(now), 5000, owes=False)
        assert taking.is_enough(now, WINDOW_S, 512)
    # And then it has all the time of a client that begins.
    taking.look(1000.0, 5000, owes=True)
    taking.look(1100.0, 5000, owes=True)
    assert taking.is_enough(1100.0, WINDOW_S, 512)
    taking.look(1120.0, 5000, owes=True)
    assert not taking.is_enough(1120.0, WINDOW_S, 512)


def test_a_good_beginning_does_not_last() -> None:
    taking = Taking(0.0)
    taking.look(0.0, 0, owes=True)
    taking.look(WINDOW_S, 10**9, owes=True)
    assert taking.is_enough(WINDOW_S, WINDOW_S, 512)
    taking.look(2 * WINDOW_S, 10**9 + 10, owes=True)
    assert taking.quiet_since == 2 * WINDOW_S
    assert not taking.is_enough(2 * WINDOW_S, WINDOW_S, 512)


def test_what_is_not_taken_is_not_made() -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(), source := Bodies(64 * MIB)) as connect:
            await silent(clock, connect, STREAM)
            await clock.skip_until(asyncio.sleep(5), 1)
            # A piece or two, and what the kernels of both sides have taken in.
            assert 0 < source.made < 2 * MIB

    run_on_clock(main)


def lines_of(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    return (record.getMessage() for record in caplog.records)


def test_who_must_go_is_told_of_in_a_line_or_two(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: Clock) -> None:
        limits = ConnectionLimits(2, NEVER, NEVER, NEVER)
        async with serving(limits, Bodies(MIB)) as connect:
            for _ in itertools.repeat(None, 100):
                await connect(STREAM)
            assert b"StoreDir" in await (await connect()).ask()
            await clock.skip_until(asyncio.sleep(90), 30)

    caplog.set_level(logging.INFO)
    run_on_clock(main)
    full = [line for line in lines_of(caplog) if "clients" in line]
    assert full == [
        "There are more than 2 clients: one had to go",
        "98 more clients had to go, as there were too many",
    ]
    # Each reply that was cut off is worth a line, ten a minute; and nothing else is told.
    assert len(caplog.records) <= 2 + 10 + 1
    assert not any(record.exc_info for record in caplog.records)


def test_a_publisher_under_attack_serves_others_and_keeps_its_log_short(tmp_path: Path) -> None:
    item = make_item(tmp_path / "items", "large")
    item.parent.mkdir()
    with item.open("wb") as file:
        file.truncate(30 * MIB)
    options = ("--items", item.parent, *KEYS, "--max-connections", "8")
    with publishing(tmp_path, *options) as publisher, ExitStack() as stack:
        for _ in range(30):
            held = stack.enter_context(publisher.connect())
            held.sendall(f"GET /nar/{item.name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert held.recv(1)
        for _ in range(300):
            publisher.connect().close()
        assert publisher.request("/nix-cache-info").status == 200
        assert publisher.narinfo(item).status == 200
        stack.close()
        assert publisher.stop() == 0
        assert "Traceback" not in publisher.log
        assert publisher.log.count("\n") < 20
