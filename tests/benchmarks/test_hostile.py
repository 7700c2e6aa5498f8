"""The peers that scenarios are spoilt with are as bad as they say, and no worse."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from benchmarks.testbed.hostile import Kind, blocks_of, serve
from eris import BlockSize, Reference, reference_of
from kapla.client import RemoteStore
from kapla.coap.blocks import ENDPOINT_STORE_PATH, block_query, get_options
from kapla.coap.frame import Code, format_frame, format_message
from kapla.urls import parse_store_url

CONTENT = random.Random(1).randbytes(100_000)
BLOCKS = blocks_of(CONTENT)
FIRST = next(iter(BLOCKS))


@asynccontextmanager
async def listening(kind: Kind) -> AsyncIterator[int]:
    """Such a peer; gives its port."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(kind, "127.0.0.1", 0, CONTENT, port.set_result))
    try:
        yield await port
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


@asynccontextmanager
async def opened(kind: Kind) -> AsyncIterator[RemoteStore]:
    async with (
        listening(kind) as port,
        RemoteStore(parse_store_url(f"coap+tcp://127.0.0.1:{port}")) as store,
    ):
        yield store


def test_its_blocks_are_those_that_encode_makes() -> None:
    assert len(BLOCKS) == 5  # four leaves and their node
    assert {len(block) for block in BLOCKS.values()} == {BlockSize.LARGE}


@pytest.mark.parametrize("kind", [Kind.STALL, Kind.DRIP, Kind.LIE], ids=lambda kind: kind.value)
def test_they_say_that_they_have_everything(kind: Kind) -> None:
    async def main() -> None:
        async with opened(kind) as store:
            assert await store.find([*BLOCKS, Reference(bytes(32))]) == [True] * 6

    asyncio.run(main())


def test_a_stalling_one_answers_what_else_is_asked_and_gives_nothing() -> None:
    async def main() -> None:
        async with opened(Kind.STALL) as store:
            getting = asyncio.ensure_future(store.get(FIRST, BlockSize.LARGE))
            await asyncio.sleep(0)
            # Asked later, answered at once.
            assert await store.find([FIRST]) == [True]
            assert not getting.done()
            getting.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)
def test_a_liar_gives_a_wrong_block_of_the_right_length(size: BlockSize) -> None:
    async def main() -> None:
        async with opened(Kind.LIE) as store:
            block = await store.get(FIRST, size)
            assert len(block) == size
            assert reference_of(block) != FIRST

    asyncio.run(main())


async def raw(kind: Kind) -> AsyncGenerator[bytes, None]:
    """What a connection brings, piece by piece, that asks for a block and pings."""
    async with listening(kind) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        get = get_options(ENDPOINT_STORE_PATH, block_query(FIRST), BlockSize.LARGE)
        writer.write(format_frame(Code.GET, b"g", get) + format_message(Code.PING, b"p"))
        try:
            while piece := await reader.read(1 << 16):
                yield piece
        finally:
            writer.close()


def test_a_drip_gives_the_right_bytes_a_hundred_at_a_time() -> None:
    async def main() -> list[bytes]:
        pieces: list[bytes] = []
        async with aclosing(raw(Kind.DRIP)) as coming:
            async for piece in coming:
                pieces.append(piece)
                if len(pieces) == 5:
                    break
        return pieces

    came = b"".join(asyncio.run(main()))
    assert BLOCKS[FIRST][:300] in came
    # Five pieces, however many hundreds each had time to gather.
    assert len(came) < BlockSize.LARGE


def test_a_mute_one_does_not_even_greet() -> None:
    async def main() -> None:
        async with aclosing(raw(Kind.MUTE)) as coming:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(coming), 0.1)

    asyncio.run(main())
