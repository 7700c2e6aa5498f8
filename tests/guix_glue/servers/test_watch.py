"""What ends for want of progress, on a clock that does not wait."""

from __future__ import annotations

import asyncio

import pytest

from guix_glue.servers.watch import TooSlow, Watch
from tests.clocks import run_without_waiting as run


async def drip(watch: Watch, size: int, every_s: float, times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(every_s)
        watch.touch(size)


@pytest.mark.parametrize(("size", "times"), [(1 << 20, 5), (1, 1), (0, 0)])
def test_silence(size: int, times: int) -> None:
    async def silent() -> None:
        with pytest.raises(TimeoutError) as raised:
            async with Watch(60.0, 512) as watch:
                await drip(watch, size, 59.0, times)
                await asyncio.sleep(1000)
        assert not isinstance(raised.value, TooSlow)

    assert times * 59 + 60 <= run(silent) < times * 59 + 70


@pytest.mark.parametrize(("size", "every_s"), [(1, 59.0), (1, 0.5), (511, 1.0), (20_000, 45.0)])
def test_a_drip(size: int, every_s: float) -> None:
    async def dripping() -> None:
        with pytest.raises(TooSlow):
            async with Watch(60.0, 512) as watch:
                await drip(watch, size, every_s, 1_000_000)

    assert run(dripping) < 200


@pytest.mark.parametrize(
    ("size", "every_s"),
    [(100, 0.1), (513, 1.0), (1500, 1.6), (1024, 1.9), (32_768, 45.0), (32_768, 59.0)],
    ids=["fast", "just enough", "9600 baud", "small blocks", "large blocks", "one block a window"],
)
def test_a_slow_line(size: int, every_s: float) -> None:
    async def slow() -> None:
        async with Watch(60.0, 512) as watch:
            await drip(watch, size, every_s, int(3600 / every_s))

    assert run(slow) >= 3500


def test_a_drip_that_begins_late() -> None:
    async def late() -> None:
        with pytest.raises(TooSlow):
            async with Watch(60.0, 512) as watch:
                await drip(watch, 1 << 20, 1.0, 500)
                await drip(watch, 1, 1.0, 1_000_000)

    assert 500 < run(late) < 700


def test_any_rate() -> None:
    async def dripping() -> None:
        async with Watch(60.0, 0) as watch:
            await drip(watch, 1, 59.0, 100)

    assert run(dripping) >= 5900


def test_our_own_disk_is_not_to_blame() -> None:
    async def disk() -> None:
        async with Watch(60.0, 512) as watch:
            for _ in range(50):
                await drip(watch, 600 * 20, 20.0, 1)
                watch.pause()
                await asyncio.sleep(500)
                watch.resume()

    assert run(disk) >= 50 * 500


def test_a_disk_that_is_busy_does_not_hide_a_drip() -> None:
    async def both() -> None:
        with pytest.raises(TooSlow):
            async with Watch(60.0, 512) as watch:
                for _ in range(1_000_000):
                    await drip(watch, 1, 5.0, 1)
                    watch.pause()
                    await asyncio.sleep(1)
                    watch.resume()

    assert run(both) < 300


def test_pauses_may_overlap() -> None:
    """Two who keep us waiting at a time: time counts again when both have let go."""

    async def overlapping() -> None:
        with pytest.raises(TimeoutError):
            async with Watch(60.0, 512) as watch:
                watch.pause()
                watch.pause()
                await asyncio.sleep(500)
                watch.resume()
                await asyncio.sleep(500)
                watch.resume()
                await asyncio.sleep(1000)

    assert 1060 <= run(overlapping) < 1070
