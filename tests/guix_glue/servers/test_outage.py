"""What fails is left alone for a while, and longer each time where that is wanted."""

from __future__ import annotations

from guix_glue.servers.outage import Outage
from tests.clocks import Clock, run_on_clock


def test_it_is_left_alone_longer_each_time_until_it_works() -> None:
    async def main(clock: Clock) -> None:
        outage = Outage(10.0, first_s=2.0)
        for pause_s in (2.0, 4.0, 8.0, 10.0, 10.0):
            assert outage.begin("down") is (pause_s == 2.0)
            # Others that were asked before fail as well.
            outage.begin("down")
            assert pause_s - 1 < outage.left_s <= pause_s
            clock.skip(pause_s)
            await clock.skip_until(_nothing(), 0.1)
            assert outage.left_s == 0
        assert outage.end()
        outage.begin("down")
        assert outage.left_s <= 2.0

    run_on_clock(main)


def test_else_it_is_always_as_long() -> None:
    async def main(clock: Clock) -> None:
        outage = Outage(10.0)
        for _ in range(3):
            outage.begin("down")
            assert 9 < outage.left_s <= 10

    run_on_clock(main)


async def _nothing() -> None: ...
