"""Laptops behind routers: they dial a daemon that everybody reaches, and are asked through it."""

from __future__ import annotations

import signal
import time
from typing import Final

from benchmarks.network import Home, Line, Nat, Plan, Spot
from benchmarks.report import Row, single
from benchmarks.testbed.daemons import Daemon
from benchmarks.testbed.stage import Content, Curve, Stage, make_content, stage

__all__ = ["behind_nat", "hub_restart"]

_LIMIT_S: Final = 90
_UPLINK: Final = Line(rtt_ms=30, up_mbit_s=20, down_mbit_s=100)
_HUB_LINE: Final = Line(rtt_ms=20, up_mbit_s=100, down_mbit_s=100)
_BAR: Final = 0.9


def _laptop(nat: Nat) -> str:
    return f"behind-{nat.value}"


def _homes() -> tuple[Home, ...]:
    """One with each kind of router, and a laptop in it."""
    return tuple(Home(nat.value, _UPLINK, nat, (_laptop(nat),)) for nat in Nat)


def _meet(play: Stage, laptops: list[str], rights: tuple[str, ...]) -> tuple[Daemon, list[Daemon]]:
    """A hub, and daemons on laptops that have dialled it."""
    hub = play.daemon("hub", started=False)
    daemons = [play.daemon(name, [hub.dialled], started=False) for name in laptops]
    hub.peers = [daemon.known(*rights) for daemon in daemons]
    hub.start()
    for daemon in daemons:
        daemon.start()
        daemon.until_connected(hub.dialled)
    return hub, daemons


# a laptop serves

_SERVED: Final = 12_000_000


def behind_nat(seed: int) -> tuple[list[Row], list[Curve]]:
    """A laptop's content, fetched by who it dialled: rate behind each kind of NAT / without."""
    content = make_content(seed, _SERVED)
    plan = Plan(
        (Spot("hub", _HUB_LINE), Spot("open", _UPLINK)),
        _homes(),
    )
    with stage(plan) as play:
        plain_s = _served(play, content, "open")
        return [
            single(
                f"a laptop behind a {nat.value} NAT: rate / without",
                [plain_s / seconds],
                "times",
                _BAR,
                note=f"{seconds:.1f} s, {plain_s:.1f} s without",
            )
            for nat in Nat
            for seconds in [_served(play, content, _laptop(nat))]
        ], []


def _served(play: Stage, content: Content, laptop: str) -> float:
    """How long a decode at the hub takes that has it from a laptop alone, the quicker of two."""
    return min(_served_once(play, content, laptop) for _ in range(2))


def _served_once(play: Stage, content: Content, laptop: str) -> float:
    hub, [daemon] = _meet(play, [laptop], ("lend",))
    urn = play.encode(content, daemon.url, "--lend")
    seconds = play.decode(content, urn, hub.url).wait(_LIMIT_S)
    hub.stop()
    daemon.stop()
    return seconds


# the hub is restarted

_SHARED: Final = 15_000_000
_RESTART_AFTER_S: Final = 2.0
_GRACE_S: Final = 10.0


def hub_restart(seed: int) -> tuple[list[Row], list[Curve]]:
    """Two laptops behind NATs that reach each other through a hub, which is restarted meanwhile.

    Whoever wants the content asks again until it is there. The bars are ours: it is at most 10 s
    later than without the restart, and little comes twice.
    """
    content, other = make_content(seed, _SHARED), make_content(seed + 1, _SHARED)
    has, wants = (_laptop(nat) for nat in Nat)
    with stage(Plan((Spot("hub", _HUB_LINE),), _homes())) as play:
        hub, [having, wanting] = _meet(play, [has, wants], ("lend", "relay"))
        urn, other_urn = (play.encode(each, having.url, "--lend") for each in (content, other))
        calm_s = play.decode(other, other_urn, wanting.url).wait(_LIMIT_S)
        since = play.counting()
        decoding, begin = play.decode(content, urn, wanting.url), time.perf_counter()
        time.sleep(_RESTART_AFTER_S)
        hub.stop(signal.SIGTERM)
        hub.start()
        asked = play.decode_until_right({wanting.url: decoding}, urn, _LIMIT_S)
        seconds = time.perf_counter() - begin
        came = since()[_homes()[1].name].received / content.size
    return [
        single(
            "hub restart: longer than without",
            [seconds - calm_s],
            "s",
            _GRACE_S,
            at_most=True,
            note=f"{calm_s:.1f} s without, {seconds:.1f} s with; asked {asked} times more",
        ),
        single("  what came / size", [came], "times", 1.15, at_most=True),
    ], []
