"""One answer for all who ask in the same moment."""

from __future__ import annotations

import asyncio

import pytest

from eris.errors import StoreUnavailable
from kapla.shared import Shared

GUARD_S = 30.0


def test_all_who_wait_share_one_and_the_next_asks_anew() -> None:
    calls = 0

    async def main() -> None:
        going = asyncio.Event()

        async def find() -> int:
            nonlocal calls
            calls += 1
            await going.wait()
            return calls

        shared = Shared(find, 0.0)
        asking = [asyncio.create_task(shared.get(GUARD_S)) for _ in range(3)]
        asyncio.get_running_loop().call_soon(going.set)
        assert await asyncio.gather(*asking) == [1, 1, 1]
        assert await shared.get(GUARD_S) == 2

    asyncio.run(main())


def test_a_fresh_answer_is_kept() -> None:
    answers = iter((1, 2))

    async def find() -> int:
        return next(answers)

    async def main() -> None:
        shared = Shared(find, 3600.0)
        assert [await shared.get(GUARD_S) for _ in range(3)] == [1, 1, 1]

    asyncio.run(main())


def test_whoever_waits_gives_up_and_what_hangs_is_begun_once() -> None:
    calls = 0

    async def find() -> int:
        nonlocal calls
        calls += 1
        await asyncio.Event().wait()
        return 0

    async def main() -> None:
        shared = Shared(find, 0.0)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await shared.get(0.001)
        assert calls == 1

    asyncio.run(main())


def test_an_error_is_everybodys_and_passes() -> None:
    answers = iter((StoreUnavailable("no"), 2))

    async def find() -> int:
        found = next(answers)
        if isinstance(found, StoreUnavailable):
            raise found
        return found

    async def main() -> None:
        shared = Shared(find, 0.0)
        with pytest.raises(StoreUnavailable, match="no"):
            await shared.get(GUARD_S)
        assert await shared.get(GUARD_S) == 2

    asyncio.run(main())
