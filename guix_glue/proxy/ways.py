"""By which ways a nar is made, in which order, and which of them may go out as they come. Pure.

What is tried first is a tree that this proxy has found to be the item before: its blocks are likely
to be near. Then all out of blocks that `guix_glue.sources.order` names, then what maps know, and at
last the nars of servers.

A client cannot be told in the middle to begin again, and a wrong beginning fails its build. So only
what is signed, or was compared before, goes out as it comes. All else is made whole first: hints,
maps, and deltas, be they signed or not, since their base is here, where it may have been altered.
The nars of servers go out as they come: they are what the client would get without a proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Final

from eris.capability import ReadCapability
from eris.errors import InvalidCapability
from guix_glue.servers.nars import NarSource
from guix_glue.sources.order import ErisSource, Source, sources_of
from guix_glue.sources.vouching import Vouched

__all__ = ["Known", "Way", "block_ways", "hinted_ways", "nar_ways"]

# Each may cost a minute.
_MAX_HINTED: Final = 3


@dataclass(frozen=True, slots=True)
class Way:
    """A source; with `whole`, nothing of it may go out before all of it was compared."""

    source: Source
    whole: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What this proxy knows of the sources of an item.

    `good` are trees that were found to be the item; `is_wrong` tells of any source whether it was
    found to be something else, `is_doubted` whether it may be.
    """

    good: tuple[ReadCapability, ...]
    is_wrong: Callable[[Source], bool]
    is_doubted: Callable[[Source], bool]


def block_ways(
    vouched: Vouched, known: Known, *, trust_hints: bool, bases: Set[str] = frozenset()
) -> list[Way]:
    """All ways out of blocks that narinfos name; `bases` are items that are here.

    What is signed of them is what `vouched.narinfo` has as `signed_urn`: whoever was not shown
    signatures that cover it hands over a narinfo that has it as `hint_urn`.
    """
    ways = [Way(ErisSource(capability), whole=False) for capability in known.good]
    for offer in sources_of(vouched, eris=True, trust_hints=trust_hints, bases=bases):
        source = offer.source
        if not isinstance(source, NarSource) and not known.is_wrong(source):
            whole = offer.narinfo is None or known.is_doubted(source)
            ways.append(Way(source, whole))
    return _each_once(ways)


def hinted_ways(urns: Iterable[str], known: Known, tried: Iterable[Way]) -> list[Way]:
    """The ways that maps know, but for those that were tried."""
    seen = {way.source for way in tried}
    ways = []
    for urn in urns:
        try:
            source = ErisSource(ReadCapability.from_urn(urn))
        except InvalidCapability:
            continue
        if source not in seen and not known.is_wrong(source):
            ways.append(Way(source, whole=True))
    return _each_once(ways)[:_MAX_HINTED]


def nar_ways(nars: Sequence[NarSource], known: Known, rests: Callable[[Source], bool]) -> list[Way]:
    """The nars of servers: those that let us wait come later, and those that were wrong last."""
    last = sorted(nars, key=lambda nar: (known.is_wrong(nar), rests(nar)))
    return _each_once(Way(nar, whole=False) for nar in last)


def _each_once(ways: Iterable[Way]) -> list[Way]:
    found: dict[Source, Way] = {}
    for way in ways:
        found.setdefault(way.source, way)
    return list(found.values())
