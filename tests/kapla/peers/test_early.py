"""What waits in the first moments."""

from __future__ import annotations

import asyncio

from eris.errors import ErisError
from kapla.coap.beyond import Found
from kapla.peers.early import Early
from tests.clocks import run_without_waiting


def never(result: Found | ErisError) -> None:
    raise AssertionError("it is asked for, not answered")


def test_whoever_comes_is_asked_at_once_and_what_he_has_not_waits_on() -> None:
    async def main() -> None:
        over = asyncio.Event()
        asked: list[int] = []
        early = Early()
        early.begin(over.wait)
        early.add("somebody", never, lambda: asked.append(1))
        early.again()
        assert asked == [1]
        assert early.is_now
        # He had it not.
        early.add("somebody", never, lambda: asked.append(2))
        assert asked == [1]
        over.set()
        await asyncio.sleep(0.1)
        assert asked == [1, 2]
        assert not early.is_now

    run_without_waiting(main)
