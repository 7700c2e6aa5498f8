"""A daemon between: what it costs to go through a near one instead of asking the far one."""

from __future__ import annotations

from typing import Final

from benchmarks.network import Line, Plan, Spot
from benchmarks.report import Row, compare
from benchmarks.testbed.daemons import Daemon
from benchmarks.testbed.stage import Content, Curve, Stage, make_content, stage

__all__ = ["loopback", "through"]

_SIZE: Final = 50_000_000
_ROUNDS: Final = 3
_LIMIT_S: Final = 60
_OTHER_PORTS: Final = (6683, 6684)
_BLOCK: Final = 32 * 1024
# One end carries delay and rate for both.
_HERE: Final = Line(0, None, None)
_LONG: Final = Plan((Spot("near", _HERE), Spot("far", Line(50, 100, 100))))
_SHORT: Final = Plan((Spot("near", _HERE),))


def through(seed: int) -> tuple[list[Row], list[Curve]]:
    """Near daemon empty, far one over 50 ms and 100 Mbit/s: time through the near / directly."""
    content = make_content(seed, _SIZE)
    ours, direct = [], []
    with stage(_LONG) as play:
        far = play.daemon("far")
        urn = play.encode(content, far.url, "--lend")
        for _ in range(_ROUNDS):
            direct.append(play.decode(content, urn, far.plain_url, "near").wait(_LIMIT_S))
            near = play.daemon("near", [far.dialled])
            near.until_connected(far.dialled)
            ours.append(play.decode(content, urn, near.url).wait(_LIMIT_S))
            near.stop()
    return [
        compare(
            "50 ms, 100 Mbit/s: through a near daemon / directly",
            ours,
            direct,
            "s",
            1.2,
            1.05,
            at_most=True,
        )
    ], []


def loopback(seed: int) -> tuple[list[Row], list[Curve]]:
    """On one host: what a block costs the daemons, directly and through another that keeps it."""
    content = make_content(seed, _SIZE)
    passed, direct = [], []
    with stage(_SHORT) as play:
        far = play.daemon("near")
        urn = play.encode(content, far.url, "--lend")
        for _ in range(_ROUNDS):
            direct.append(_cost_us(play, content, urn, far.plain_url, far))
            near = play.daemon("near", [far.dialled], ports=_OTHER_PORTS)
            near.until_connected(far.dialled)
            passed.append(_cost_us(play, content, urn, near.url, far, near))
            near.stop()
    note = "processor time of daemons for a block of 32 KiB, which the near one verifies and keeps"
    case = "loopback: both, through a near daemon / directly"
    return [compare(case, passed, direct, "us", note=note)], []


def _cost_us(play: Stage, content: Content, urn: str, url: str, *daemons: Daemon) -> float:
    """Processor time that daemons take for each block of a decode, in microseconds."""
    before = sum(daemon.cpu_s for daemon in daemons)
    play.decode(content, urn, url, "near").wait(_LIMIT_S)
    return (sum(daemon.cpu_s for daemon in daemons) - before) / (content.size / _BLOCK) * 1e6
