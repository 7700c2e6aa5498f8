"""Several maps as hints: in order, bounded, and never an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from eris.errors import StoreUnavailable
from guix_glue.formats.item_map import Contents, InvalidMap
from guix_glue.maps.hints import MapHints, NamedMap
from guix_glue.maps.port import UnlistedMap
from tests.guix_glue.maps.entries import a_urn

HASH_PART = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f"


class Fixed:
    """A map that says the same of every item, or fails."""

    def __init__(self, says: str | Exception | None) -> None:
        self.asked = 0
        self.closed = False
        self._says = says

    async def find(self, hash_part: str) -> str | None:
        self.asked += 1
        if isinstance(self._says, Exception):
            raise self._says
        return self._says

    async def load(self) -> Contents:
        raise UnlistedMap

    async def close(self) -> None:
        self.closed = True


class Silent(Fixed):
    """A map that never answers."""

    def __init__(self) -> None:
        super().__init__(None)
        self.cancelled = 0
        self.began = asyncio.Event()

    async def find(self, hash_part: str) -> str | None:
        self.asked += 1
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return None


def hints_of(*maps: Fixed, tell: Callable[[str], None] = lambda _: None) -> MapHints:
    named = [NamedMap(f"map {number}", one) for number, one in enumerate(maps, 1)]
    return MapHints(named, patience_s=0.05, tell=tell)


def test_the_urns_of_all_maps_in_their_order_each_once() -> None:
    async def run() -> None:
        maps = [Fixed(a_urn(number)) for number in (1, 2, 1, 3, 4)]
        hints = hints_of(Fixed(None), *maps)
        assert await hints.urns(HASH_PART) == [a_urn(1), a_urn(2), a_urn(3)]
        await hints.close()
        assert all(one.closed for one in maps)

    asyncio.run(run())


@pytest.mark.parametrize(
    "error",
    [
        InvalidMap("x"),
        StoreUnavailable("coap://secret"),
        OSError(5, "ill"),
        TimeoutError(),
        KeyError(),
    ],
)
def test_a_map_that_fails_is_told_of_once_and_left_alone(error: Exception) -> None:
    async def run() -> None:
        said: list[str] = []
        bad, good = Fixed(error), Fixed(a_urn())
        hints = hints_of(bad, good, tell=said.append)
        for _ in range(3):
            assert await hints.urns(HASH_PART) == [a_urn()]
        assert (bad.asked, good.asked) == (1, 3)
        (line,) = said
        assert line.startswith("map 1 is passed over")
        assert "secret" not in line and "urn:" not in line

    asyncio.run(run())


def test_a_map_that_is_silent_is_not_waited_for_again() -> None:
    async def run() -> None:
        said: list[str] = []
        silent, good = Silent(), Fixed(a_urn())
        hints = hints_of(silent, good, tell=said.append)
        for _ in range(3):
            assert await hints.urns(HASH_PART) == [a_urn()]
        await hints.close()
        assert (silent.asked, silent.cancelled) == (1, 1)
        assert "in time" in said[0]

    asyncio.run(run())


def test_a_map_that_hangs_is_not_asked_again_before_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As reading a file does on a disk that is gone: no cancellation ends it."""
    monkeypatch.setattr("guix_glue.maps.hints._SLOW_PAUSE_S", 0.0)

    async def run() -> None:
        ended = asyncio.Event()

        class Hanging(Fixed):
            async def find(self, hash_part: str) -> str | None:
                self.asked += 1
                while not ended.is_set():
                    with suppress(asyncio.CancelledError):
                        await ended.wait()
                return None

        hanging = Hanging(None)
        hints = hints_of(hanging, Fixed(a_urn()))
        for _ in range(3):
            assert await hints.urns(HASH_PART) == [a_urn()]
        assert hanging.asked == 1
        ended.set()
        await hints.close()

    asyncio.run(run())


def test_a_wrong_urn_is_not_told_again() -> None:
    async def run() -> None:
        hints = hints_of(Fixed(a_urn(1)), Fixed(a_urn(2)))
        await hints.forget(HASH_PART, a_urn(1))
        assert await hints.urns(HASH_PART) == [a_urn(2)]
        assert await hints.urns("0" * 32) == [a_urn(1), a_urn(2)]

    asyncio.run(run())


def test_whoever_leaves_takes_the_questions_along() -> None:
    async def run() -> None:
        silent = Silent()
        hints = MapHints([NamedMap("map", silent)], patience_s=300)
        waiting = asyncio.create_task(hints.urns(HASH_PART))
        await silent.began.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await hints.close()
        assert silent.cancelled == 1

    asyncio.run(run())


def test_no_map_is_no_hint() -> None:
    assert asyncio.run(hints_of().urns(HASH_PART)) == ()
