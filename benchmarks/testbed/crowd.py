"""Many daemons that want the same at once, come and go, or are cut off from each other."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.network import Line, Plan, Spot
from benchmarks.report import Row, single
from benchmarks.testbed.daemons import Daemon
from benchmarks.testbed.stage import Curve, Stage, make_content, stage

__all__ = ["churn", "flash_crowd", "partition"]

_LINE: Final = Line(rtt_ms=25, up_mbit_s=10, down_mbit_s=10)
_FIRST: Final = "first"
_TEN: Final = tuple(f"{number}" for number in range(1, 11))
_MBIT: Final = 1e6 / 8
_LIMIT_S: Final = 120


def _mesh(play: Stage, names: Sequence[str]) -> list[Daemon]:
    """Daemons on these hosts that all know each other: of two, the later one dials."""
    daemons = [play.daemon(name, started=False) for name in names]
    for number, daemon in enumerate(daemons):
        later = daemons[number + 1 :]
        daemon.peers = [
            *(other.dialled for other in daemons[:number]),
            *(other.known() for other in later),
        ]
        daemon.start()
    for number, daemon in enumerate(daemons):
        daemon.until_connected(*(other.dialled for other in daemons[:number]))
    return daemons


# flash crowd

# Ten commands take a moment to start: little beside what one line takes for this, 16 s.
_CROWD_SIZE: Final = 20_000_000


def flash_crowd(seed: int) -> tuple[list[Row], list[Curve]]:
    """Ten daemons want at once what one has: what leaves the first / size."""
    content = make_content(seed, _CROWD_SIZE)
    plan = Plan(tuple(Spot(name, _LINE) for name in (_FIRST, *_TEN)))
    with stage(plan) as play:
        first, *ten = _mesh(play, plan.names())
        urn = play.encode(content, first.url, "--lend")
        since = play.counting()
        with play.watched(*_TEN, sender=_FIRST) as curves:
            decodings = [play.decode(content, urn, daemon.url) for daemon in ten]
            times = [decoding.wait(_LIMIT_S) for decoding in decodings]
        seen = since()
    left = seen[_FIRST].sent / content.size
    came = sum(seen[name].received for name in _TEN) / len(_TEN) / content.size
    alone_s = content.size / (_LINE.down_mbit_s or 1) / _MBIT
    note = (
        f"the last had it after {max(times):.1f} s, {max(times) / alone_s:.1f} x what one line"
        f" takes; {came:.2f} x its size came to each"
    )
    row = single(
        "flash crowd of ten: bytes that leave the first / size",
        [left],
        "times",
        3,
        2,
        at_most=True,
        note=note,
    )
    return [row], list(curves.values())


# churn

_CHURN_SIZE: Final = 25_000_000
_CHURN_SOURCES: Final = tuple(f"s{number}" for number in range(1, 7))
_BETWEEN_S: Final = (0.5, 2.0)
_ALIVE: Final = 3
_CHURN_BAR: Final = 2


def churn(seed: int) -> tuple[list[Row], list[Curve]]:
    """Of six peers that have all, three are there at a time: one is killed, another started.

    The bar is ours: those that were there could have given the content twice at most.
    """
    chance = random.Random(seed)
    content = make_content(seed, _CHURN_SIZE)
    near = Spot("near", Line(25, None, None))
    with stage(Plan((near, *(Spot(name, _LINE) for name in _CHURN_SOURCES)))) as play:
        sources = [play.daemon(name) for name in _CHURN_SOURCES]
        urns = [play.encode(content, source.url, "--lend") for source in sources]
        peers = [source.dialled for source in sources]
        for source in sources[_ALIVE:]:
            source.kill()
        daemon = play.daemon("near", peers)
        daemon.until_connected(*peers[:_ALIVE])
        since = play.counting()
        decoding = play.decode(content, urns[0], daemon.url)
        with _coming_and_going(sources, chance) as lives:
            asked = play.decode_until_right({daemon.url: decoding}, urns[0], _LIMIT_S)
            seconds = time.perf_counter() - decoding.begin
        received = since()["near"].received
    given = lives.seconds * (_LINE.up_mbit_s or 1) * _MBIT / content.size
    row = single(
        "churn: what those there could give / size",
        [given],
        "times",
        _CHURN_BAR,
        at_most=True,
        note=f"{seconds:.1f} s; {lives.ended} peers were killed;"
        f" {received / content.size:.2f} x its size came; asked {asked} times more",
    )
    return [row], []


@dataclass
class _Lives:
    """What became of peers: how many were killed, and the seconds that all together were there."""

    ended: int = 0
    seconds: float = 0.0


@contextmanager
def _coming_and_going(sources: Sequence[Daemon], chance: random.Random) -> Iterator[_Lives]:
    """Kill one and start another, again and again; what became of them is known at the end."""
    lives, over = _Lives(), threading.Event()
    born = {source.host.name: time.monotonic() for source in sources if source.is_running}

    def go_on() -> None:
        while not over.wait(chance.uniform(*_BETWEEN_S)):
            dead = chance.choice([source for source in sources if not source.is_running])
            dies = chance.choice([source for source in sources if source.is_running])
            dies.kill()
            lives.seconds += time.monotonic() - born.pop(dies.host.name)
            lives.ended += 1
            dead.start()
            born[dead.host.name] = time.monotonic()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield lives
    finally:
        now = time.monotonic()
        over.set()
        thread.join()
        lives.seconds += sum(max(0.0, now - then) for then in born.values())


# partition

_PARTITION_SIZE: Final = 6_000_000
_HALVES: Final = (("first", "a1", "a2"), ("b1", "b2", "b3"))
_BEFORE_S: Final = 3.0
_TOGETHER_S: Final = 30.0


def partition(seed: int) -> tuple[list[Row], list[Curve]]:
    """The network breaks in two while all want what one half has, and is one again later.

    Whoever has the content near goes on; the others ask again until they have it. The bars are
    ours: once joined it takes the far half as long as one line takes and 30 s at most, and what it
    had before is not fetched again.
    """
    content = make_content(seed, _PARTITION_SIZE)
    here, there = _HALVES
    with stage(Plan(tuple(Spot(name, _LINE) for name in (*here, *there)))) as play:
        first, *others = _mesh(play, [*here, *there])
        urn = play.encode(content, first.url, "--lend")
        since = play.counting()
        decodings = [play.decode(content, urn, daemon.url) for daemon in others]
        time.sleep(_BEFORE_S)
        play.net.part(list(here), list(there))
        for decoding in decodings[: len(here) - 1]:
            decoding.wait(_LIMIT_S)
        came_before = {name: since()[name].received for name in there}
        play.net.join(*there)
        begin = time.perf_counter()
        far = slice(len(here) - 1, None)
        urls = [daemon.url for daemon in others[far]]
        waiting = dict(zip(urls, decodings[far], strict=True))
        asked = play.decode_until_right(waiting, urn, _LIMIT_S)
        seconds = time.perf_counter() - begin
        came = sum(since()[name].received for name in there) / len(there) / content.size
    had = sum(came_before.values()) / len(there) / content.size
    alone_s = content.size / (_LINE.down_mbit_s or 1) / _MBIT
    return [
        single(
            "partition: until the far half has it, once joined",
            [seconds],
            "s",
            alone_s + _TOGETHER_S,
            at_most=True,
            note=f"{had:.0%} of it was there before; its users asked {asked} times more",
        ),
        single("  what came to the far half / size", [came], "times", 1.2, at_most=True),
    ], []
