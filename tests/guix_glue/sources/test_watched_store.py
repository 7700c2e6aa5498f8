"""A store under watch, on a clock that does not wait."""

from __future__ import annotations

import asyncio

import pytest

from eris.model import BlockSize, Reference
from guix_glue.servers.watch import TooSlow, Watch
from guix_glue.sources.watched_store import WatchedStore
from tests.clocks import run_without_waiting as run

BLOCK = bytes(1024)
REFERENCE = Reference(bytes(32))


class Late:
    """A store that answers after so many seconds."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        await asyncio.sleep(self._after_s)
        return BLOCK


def test_while_nothing_is_asked_for_no_store_is_silent() -> None:
    async def main() -> None:
        async with Watch(60.0, 512) as watch:
            store = WatchedStore(Late(1.0), watch)
            for _ in range(50):
                await store.get(REFERENCE, BlockSize.SMALL)
                await asyncio.sleep(500)
        assert store.received == 50 * len(BLOCK)

    assert run(main) >= 50 * 500


def test_a_store_that_is_asked_and_does_not_answer() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with Watch(60.0, 512) as watch:
                store = WatchedStore(Late(100_000), watch)
                await asyncio.sleep(500)
                await store.get(REFERENCE, BlockSize.SMALL)

    assert 560 <= run(main) < 570


def test_a_store_that_drips_while_much_is_made_of_each_block() -> None:
    async def main() -> None:
        with pytest.raises(TooSlow):
            async with Watch(60.0, 512) as watch:
                store = WatchedStore(Late(20.0), watch)
                while True:
                    await store.get(REFERENCE, BlockSize.SMALL)
                    await asyncio.sleep(100)

    assert run(main) < 1000
