"""Clients that go away, or stop sending, at any stage: nothing of them stays, and answers come."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from contextlib import suppress
from unittest import mock

import pytest
from aiohttp import web

from guix_glue.publish.model import PublishOptions
from guix_glue.publish.site import Site
from guix_glue.serving.connection import connections_to
from guix_glue.serving.opening import opened_in_thread
from kapla.http.serving.connections import ConnectionLimits, Connections
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.publish.serving import (
    FILE,
    REQUEST,
    SLOW,
    STREAM,
    Bodies,
    Client,
    Connect,
    serving,
)

MIB = 1024 * 1024
LIMITS = ConnectionLimits(16)


async def nothing_left(source: Bodies, before: tuple[int, int]) -> None:
    """Wait until no task, body or descriptor is left of any client."""
    while len(asyncio.all_tasks()) > before[0] or source.open_bodies or descriptors() > before[1]:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


STAGES = {
    "before a request": (b"", 0),
    "within a request": (REQUEST[:-2], 0),
    "behind a request": (REQUEST, 0),
    "when the answer is not there yet": (SLOW, 0),
    "before a file": (FILE, 0),
    "behind the first byte of a file": (FILE, 1),
    "within a file": (FILE, MIB),
    "before a stream": (STREAM, 0),
    "behind the first byte of a stream": (STREAM, 1),
    "within a stream": (STREAM, MIB),
    "with many requests": (STREAM * 20 + FILE * 20 + SLOW * 20, 1),
    "with what is no request": (b"\r\n\r\n\0", 0),
}


@pytest.mark.parametrize("how", ["reset", "close"])
def test_nothing_stays_of_clients_that_have_gone(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave(connect: Connect, sent: bytes, read: int) -> None:
        client = await connect(sent)
        with suppress(EOFError, ConnectionError):
            while client.received < read:
                await client.more(min(read, 1 << 16))
        getattr(client, how)()

    async def main(clock: Clock) -> None:
        async with serving(LIMITS, source := Bodies(4 * MIB)) as connect:
            # What the first client costs for good, as the threads of the pool.
            await (await connect()).ask(STREAM)
            connect.clients[0].close()
            await nothing_left(source, (len(asyncio.all_tasks()) - 1, descriptors()))
            before = len(asyncio.all_tasks()), descriptors()
            for sent, read in STAGES.values():
                # More than there may be at once, so that some have to go besides.
                await asyncio.gather(*(leave(connect, sent, read) for _ in range(20)))
            # Whoever closes may only have ended sending, and is answered.
            source.go_on.set()
            await nothing_left(source, before)
            assert b"StoreDir" in await (await connect()).ask()

    caplog.set_level(logging.INFO)
    run_on_clock(main)
    assert not any(record.exc_info for record in caplog.records), caplog.text
    assert all(record.levelno == logging.INFO for record in caplog.records), caplog.text


def test_after_hundreds_of_resets_everybody_is_served() -> None:
    async def main(clock: Clock) -> None:
        async with serving(LIMITS, source := Bodies(MIB)) as connect:
            before = len(asyncio.all_tasks())
            for number in range(600):
                client = await connect((STREAM, FILE, SLOW, REQUEST, b"")[number % 5])
                client.reset()
            everybody = await asyncio.gather(*(connect() for _ in range(16)))
            for client in everybody:
                assert b"StoreDir" in await client.ask()
            for client in everybody:
                assert len(await client.ask(FILE)) > MIB
                client.close()
            await nothing_left(source, (before, 1 << 30))

    run_on_clock(main)


def test_one_that_has_gone_before_its_task_began(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(1), Bodies(MIB)) as connect:
            # All of them are let in at once, each in the place of the one before.
            clients = await asyncio.gather(*(connect(REQUEST) for _ in range(50)))
            assert b"StoreDir" in await (await connect()).ask()
            for client in clients:
                client.close()

    caplog.set_level(logging.INFO)
    run_on_clock(main)
    assert [record.getMessage() for record in caplog.records] == [
        "There are more than 1 clients: one had to go"
    ]


def test_a_connection_may_end_before_anything_of_it_began(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            raise NotImplementedError

        options = PublishOptions("/gnu/store", ())
        site = Site(Bodies(1), options, public_key=None, eris=False)
        make = connections_to(site)
        server = Connections(handle, LIMITS, lambda connection, status: None, make)
        connection = server()
        transport = mock.Mock(spec=asyncio.Transport)
        transport.get_extra_info.return_value = None
        connection.connection_made(transport)
        connection.connection_lost(ConnectionResetError())
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert server.connections == []

    asyncio.run(main())
    # Which is when asyncio complains of errors that nobody has looked at.
    gc.collect()
    assert not caplog.records


def test_what_was_opened_for_somebody_who_has_gone_is_closed() -> None:
    class File:
        closed = False

        def close(self) -> None:
            self.closed = True

    async def main() -> None:
        opening, go_on, file = threading.Event(), threading.Event(), File()

        def open_it() -> File:
            opening.set()
            go_on.wait(30)
            return file

        task = asyncio.create_task(opened_in_thread(open_it))
        await asyncio.to_thread(opening.wait, 30)
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert file.closed

    asyncio.run(main())


# --- clients that only stop sending -------------------------------------------------------------


async def half_closed(connect: Connect, sent: bytes) -> Client:
    client = await connect(sent)
    client.socket.shutdown(1)
    return client


@pytest.mark.parametrize("request_", [REQUEST, FILE, STREAM], ids=["page", "file", "stream"])
@pytest.mark.parametrize("times", [1, 40])
def test_who_sends_no_more_gets_all_answers(request_: bytes, times: int) -> None:
    async def main(clock: Clock) -> None:
        async with serving(LIMITS, source := Bodies(MIB // 4)) as connect:
            one = await connect(request_)
            expected = await one.reply()
            client = await half_closed(connect, request_ * times)
            received = await client.rest()
            assert received.count(b"HTTP/1.1 200 OK") == times
            assert len(received) >= times * (len(expected) - 1)
            assert source.open_bodies == 0

    run_on_clock(main)


def test_who_sends_no_more_may_wait_for_an_answer() -> None:
    async def main(clock: Clock) -> None:
        async with serving(LIMITS, source := Bodies(MIB)) as connect:
            client = await half_closed(connect, SLOW)
            await source.asked.wait()
            await asyncio.sleep(0.01)
            source.go_on.set()
            assert (await client.rest()).startswith(b"HTTP/1.1 200 OK")

    run_on_clock(main)


@pytest.mark.parametrize("sent", [b"", REQUEST[:-2]], ids=["nothing", "half a request"])
def test_who_asks_nothing_and_sends_no_more_is_not_waited_for(sent: bytes) -> None:
    async def main(clock: Clock) -> None:
        async with serving(LIMITS, Bodies(MIB)) as connect:
            began = clock.time()
            assert await (await half_closed(connect, sent)).rest() == b""
            assert clock.time() - began < LIMITS.head_s

    run_on_clock(main)
