"""One content from several peers: as fast as their sum, whatever a fifth one does.

A daemon that has nothing asks peers that each have all, over lines of 10 Mbit/s, 50 ms away. What
is measured is `kapla decode` through it, from start to end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from benchmarks.network import Line, Plan, Spot
from benchmarks.report import Row, single
from benchmarks.testbed.daemons import Peer, hostile_peer
from benchmarks.testbed.hostile import Kind
from benchmarks.testbed.stage import Content, Curve, Stage, make_content, stage

__all__ = ["four", "nothing"]

_RTT_MS: Final = 50
_MBIT_S: Final = 10
_SIZE: Final = 30_000_000
_SMALL: Final = 4_000_000
_SOURCES: Final = ("s1", "s2", "s3", "s4")
_FIFTH: Final = "s5"
_NEAR: Final = "near"
# Nobody has it: what is sent there is swallowed.
_DEAD_URL: Final = "coap+tcp://10.77.99.99"
_PLAN: Final = Plan(
    (
        Spot(_NEAR, Line(_RTT_MS / 2, None, None)),
        *(Spot(name, Line(_RTT_MS / 2, _MBIT_S, _MBIT_S)) for name in (*_SOURCES, _FIFTH)),
    )
)


class _Run(NamedTuple):
    """One decode: how long it took, and what came meanwhile."""

    seconds: float
    received: int
    curve: Curve


class Sources:
    """Peers that have a content, and daemons without it that ask them."""

    def __init__(self, play: Stage, content: Content) -> None:
        self._play = play
        self._content = content
        self._peers = []
        for name in _SOURCES:
            daemon = play.daemon(name)
            self._urn = play.encode(content, daemon.url, "--lend")
            self._peers.append(daemon.dialled)

    def decode(self, label: str, count: int, *others: Peer) -> _Run:
        """Decode through a new daemon that asks so many of the peers, and these others.

        Raises: Failed.
        """
        peers = [*self._peers[:count], *others]
        daemon = self._play.daemon(_NEAR, peers)
        daemon.until_connected(*self._peers[:count])
        since = self._play.counting()
        try:
            with self._play.watched(_NEAR) as curves:
                decoding = self._play.decode(self._content, self._urn, daemon.url)
                seconds = decoding.wait(_limit_s(self._content.size, count))
        finally:
            daemon.stop()
        curve = Curve(label, [*curves[_NEAR].points, (seconds, since()[_NEAR].received)])
        return _Run(seconds, since()[_NEAR].received, curve)


def _limit_s(size: int, sources: int) -> float:
    return 20 + 4 * size * 8e-6 / _MBIT_S / sources


@contextmanager
def _sources(seed: int, size: int) -> Iterator[tuple[Stage, Sources, Content]]:
    content = make_content(seed, size)
    with stage(_PLAN) as play:
        yield play, Sources(play, content), content


def four(seed: int) -> tuple[list[Row], list[Curve]]:
    """Four peers against one of them, and with a fifth that is bad in each way."""
    with _sources(seed, _SIZE) as (play, sources, content):
        one = sources.decode("one", 1)
        all_four = sources.decode("four", 4)
        rows = [
            single(
                "four peers, 30 MB: rate / one of them",
                [one.seconds / all_four.seconds],
                "times",
                3.2,
                3.7,
                note=f"{one.seconds:.1f} s from one, {all_four.seconds:.1f} s from four",
            ),
            single(
                "  bytes fetched twice",
                [max(0.0, (all_four.received - one.received) / content.size * 100)],
                "%",
                5,
                2,
                at_most=True,
                note=f"{one.received:,} came from one, {all_four.received:,} from four",
            ),
        ]
        curves = [one.curve, all_four.curve]
        for name, run in _with_a_fifth(play, sources, content):
            curves.append(run.curve)
            rows.append(_compared(name, run, all_four, one, content))
    return rows, curves


def _compared(name: str, run: _Run, all_four: _Run, one: _Run, content: Content) -> Row:
    twice = max(0.0, (run.received - one.received) / content.size * 100)
    return single(
        f"  with a fifth that {name}: time / the four",
        [run.seconds / all_four.seconds],
        "times",
        1.15,
        1.05,
        at_most=True,
        note=f"{run.seconds:.1f} s; {twice:.1f} % came twice or in vain",
    )


def _with_a_fifth(play: Stage, sources: Sources, content: Content) -> Iterator[tuple[str, _Run]]:
    yield "is dead", sources.decode("dead", 4, Peer("dead", _DEAD_URL))
    for kind, name in _WAYS:
        with hostile_peer(kind, play.net.host(_FIFTH), content.path) as url:
            yield name, sources.decode(kind.value, 4, Peer(_FIFTH, url))


_WAYS: Final = (
    (Kind.MUTE, "never says a word"),
    (Kind.STALL, "stalls"),
    (Kind.DRIP, "drips 1 kB/s"),
    (Kind.LIE, "lies"),
)


def nothing(seed: int) -> tuple[list[Row], list[Curve]]:
    """What a peer costs that has none of it: the quickest of four, as a machine only delays."""
    with _sources(seed, _SMALL) as (play, sources, _):
        empty = play.daemon(_FIFTH).dialled
        alone, beside = [], []
        for _ in range(4):
            alone.append(sources.decode("", 1).seconds)
            beside.append(sources.decode("", 1, empty).seconds)
    with_s, without_s = min(beside), min(alone)
    row = single(
        "a peer that has nothing: time - 1.05 x without",
        [(with_s - 1.05 * without_s) * 1000],
        "ms",
        _RTT_MS,
        at_most=True,
        note=f"4 MB: {without_s:.2f} s without, {with_s:.2f} s with",
    )
    return [row], []
