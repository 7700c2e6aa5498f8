"""Clients: processes that work with a daemon until they are killed, and tell what was answered.

What they tell is lines of JSON, each written after the answers of which it tells. A new kind of
work is a function in `WORKS`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from eris import BlockSize, get_content, put_content
from eris.errors import BlockNotFound, StoreError
from kapla.remote_store import RemoteStore
from kapla.urls import parse_store_url
from tests.torture.pin_clients import list_pins, pin_blocks, release_pin
from tests.torture.processes import Child
from tests.torture.things import block_of, content_of, size_of

__all__ = ["start_client"]


@dataclass(slots=True)
class Client:
    """One client at work. `is_evicting`: what was answered may be gone later."""

    random: Random
    store: RemoteStore
    output: int
    numbers: count[int]
    is_evicting: bool
    put: list[int] = field(default_factory=list)
    pins: list[str] = field(default_factory=list)

    def tell(self, **facts: object) -> None:
        """Write a line."""
        os.write(self.output, json.dumps(facts).encode() + b"\n")


async def put_blocks(client: Client) -> None:
    """Blocks, some at once; some of them twice."""
    numbers = [next(client.numbers) for _ in range(client.random.randrange(1, 60))]
    again = client.random.sample(client.put, min(len(client.put), client.random.randrange(4)))
    results = await asyncio.gather(
        *[client.store.put(*block_of(number)) for number in numbers + again], return_exceptions=True
    )
    kept = [number for number, result in zip(numbers, results, strict=False) if result is None]
    client.put += kept
    client.tell(put=kept, failed=len(numbers) - len(kept))


async def get_blocks(client: Client) -> None:
    """What this client put is there."""
    for number in client.random.sample(client.put, min(20, len(client.put))):
        reference, block = block_of(number)
        try:
            found = await client.store.get(reference, size_of(number))
        except BlockNotFound:
            if not client.is_evicting:
                client.tell(fault=f"block {number} was answered and is not there")
            continue
        if found != block:
            client.tell(fault=f"block {number} is another one")


async def find_blocks(client: Client) -> None:
    """The same by FETCH; and what nobody has is not there."""
    numbers = client.random.sample(client.put, min(200, len(client.put)))
    nobodys = [Random(f"nobody {number}").randbytes(32) for number in numbers]
    names = [block_of(number)[0] for number in numbers]
    found = await client.store.find([*names, *nobodys])  # type: ignore[list-item]
    if not client.is_evicting and not all(found[: len(numbers)]):
        client.tell(fault="a block was answered and is not found")
    if any(found[len(numbers) :]):
        client.tell(fault="a block is found that nobody put")


async def encode_and_decode(client: Client) -> None:
    """A content, there and back."""
    number = next(client.numbers)
    content = content_of(number)
    capability = await put_content(client.store, content, block_size=BlockSize.SMALL)
    client.tell(content=number)
    try:
        if await get_content(client.store, capability) != content:
            client.tell(fault=f"content {number} is another one")
    except BlockNotFound:
        if not client.is_evicting:
            client.tell(fault=f"content {number} was answered and is not there")


WORKS: Final[dict[Callable[[Client], Awaitable[None]], int]] = {
    put_blocks: 6,
    get_blocks: 2,
    find_blocks: 1,
    encode_and_decode: 2,
    pin_blocks: 4,
    release_pin: 1,
    list_pins: 1,
}

_PAUSE_S: Final = 0.01


async def _work(client: Client, stores: Sequence[RemoteStore]) -> None:
    kinds, weights = list(WORKS), list(WORKS.values())
    while True:
        [kind] = client.random.choices(kinds, weights)
        if len(stores) > 1:
            client.store = client.random.choice(stores)
        try:
            await kind(client)
        except StoreError:
            # It is full, fails, or is gone: for a while, or until somebody kills this process.
            await asyncio.sleep(_PAUSE_S)


def start_client(sockets: Sequence[Path], seed: str, first: int, *, is_evicting: bool) -> Child:
    """Start one whose blocks have numbers from the first on.

    `sockets`: of daemons that have the same store; each work is done with one of them.
    """

    async def run(output: int) -> None:
        urls = [parse_store_url(f"coap+unix://{socket}") for socket in sockets]
        async with AsyncExitStack() as stack:
            stores = [
                await stack.enter_async_context(RemoteStore(url, timeout_s=30.0)) for url in urls
            ]
            client = Client(Random(seed), stores[0], output, count(first), is_evicting)
            await _work(client, stores)

    return Child(lambda output: asyncio.run(run(output)))
