"""Where an item can be got from, in the order in which that is tried. Pure.

Blocks first, if there is a store to ask. What moves least is the delta that leads to the item from
another one that is here: publishers name only those that are worth it, the best first. Then the
whole item, as a tree. Of both, that which is signed; where nothing is, and the user trusts hints to
be worth a try, those that servers add which somebody named, and for trees those of maps. Then the
nars, server by server, of each server the one that is least to download. Whatever is got is
compared with the signed hash, so that the order is a matter of cost only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Final, NamedTuple

from eris.capability import ReadCapability
from eris.errors import InvalidCapability
from guix_glue.formats.narinfo import DeltaLine, Narinfo
from guix_glue.servers.nars import NarSource, nar_sources
from guix_glue.sources.vouching import Vouched

__all__ = [
    "DeltaSource",
    "ErisSource",
    "Offer",
    "Source",
    "bases_of",
    "download_size",
    "sources_of",
    "urn_is_readable",
    "wants_hints",
]

# Each hint may cost a time-out, and one server can name only one.
_MAX_HINTS: Final = 3
# Of all servers together: each is looked up on this machine.
_MAX_BASES: Final = 64
_URN_START: Final = len("urn:eris:") + 12
_REST: Final = "..."


@dataclass(frozen=True, slots=True)
class ErisSource:
    """An ERIS-FS tree."""

    capability: ReadCapability

    @property
    def shown(self) -> str:
        """The beginning of its URN: enough to tell it from others, not to read it."""
        return _shown(self.capability)


@dataclass(frozen=True, slots=True)
class DeltaSource:
    """A delta that leads to the item from another one, `base` (`HASH-NAME`), which is here."""

    base: str
    capability: ReadCapability

    @property
    def shown(self) -> str:
        """The beginning of its URN, as of `ErisSource`."""
        return _shown(self.capability)


Source = DeltaSource | ErisSource | NarSource


@dataclass(frozen=True, slots=True)
class Offer:
    """A source, and the narinfo that names it; None for what is no more than a hint.

    A delta is one: what comes of it depends on a base that nobody vouches for.
    """

    source: Source
    narinfo: Narinfo | None


def sources_of(
    vouched: Vouched,
    *,
    eris: bool,
    trust_hints: bool,
    bases: Set[str] = frozenset(),
    hints: Sequence[str] = (),
) -> Iterator[Offer]:
    """All sources, best first; `eris` tells whether there is a store to ask for blocks.

    `bases` are those of `bases_of` that are here; `hints` are URNs of maps, which the user named
    for this: no more than that is needed to try them.
    """
    if eris:
        yield from _deltas(vouched, trust_hints, bases)
        yield from _eris_sources(vouched, trust_hints, hints)
    seen: set[str] = set()
    for offer in _nars(vouched):
        if offer.source.url not in seen:
            seen.add(offer.source.url)
            yield Offer(offer.source, offer.narinfo)


def bases_of(narinfos: Iterable[Narinfo], *, trust_hints: bool) -> Sequence[str]:
    """The base names of all items from which a delta may lead to the one of these narinfos.

    If they are too many, each narinfo has its share: nobody has looked at the signatures, and one
    that names what nobody has shall not hide the others'.
    """
    named = [(*one.signed_deltas, *(one.hint_deltas if trust_hints else ())) for one in narinfos]
    in_turn = chain.from_iterable(zip_longest(*named))
    bases = dict.fromkeys(line.base for line in in_turn if line is not None)
    return list(islice(bases, _MAX_BASES))


def wants_hints(vouched: Vouched) -> bool:
    """Whether maps are to be asked: nobody signed a URN that can be read."""
    return _capability(vouched.narinfo.signed_urn) is None


def urn_is_readable(narinfo: Narinfo) -> bool:
    """Whether blocks can be asked for by the URN that is signed, if there is one."""
    return not narinfo.signed_urn or _capability(narinfo.signed_urn) is not None


def download_size(vouched: Vouched, *, eris: bool, trust_hints: bool) -> int | None:
    """What the daemon is told of the download: its bytes, 0 if nobody knows; None if none.

    Deltas do not count: which one is taken, and whether any, shows when the item is brought.
    """
    nar = next(_nars(vouched), None)
    if nar is not None:
        return nar.source.file_size or 0
    blocks = eris and next(_eris_sources(vouched, trust_hints), None) is not None
    return 0 if blocks else None


class _Nar(NamedTuple):
    source: NarSource
    narinfo: Narinfo


def _nars(vouched: Vouched) -> Iterator[_Nar]:
    for candidate in vouched.candidates:
        for source in nar_sources(candidate.server, candidate.narinfo.urls):
            yield _Nar(source, candidate.narinfo)


def _eris_sources(
    vouched: Vouched, trust_hints: bool, mapped: Sequence[str] = ()
) -> Iterator[Offer]:
    signed = _capability(vouched.narinfo.signed_urn)
    if signed is not None:
        yield Offer(ErisSource(signed), vouched.narinfo)
        return
    # Signed or not: nobody has looked at the signatures of the others.
    narinfos = _hinting(vouched) if trust_hints else ()
    named = [urn for one in narinfos for urn in (one.hint_urn, one.signed_urn) if urn]
    # Each of the two kinds has its share: many servers may name what is wrong, and so may maps.
    for capability in dict.fromkeys([*_readable(named), *_readable(mapped)]):
        yield Offer(ErisSource(capability), None)


def _readable(urns: Iterable[str]) -> Iterator[ReadCapability]:
    capabilities = (_capability(urn) for urn in dict.fromkeys(urns))
    return islice((one for one in capabilities if one is not None), _MAX_HINTS)


def _deltas(vouched: Vouched, trust_hints: bool, bases: Set[str]) -> Iterator[Offer]:
    signed = _delta(vouched.narinfo.signed_deltas, bases)
    if signed is not None:
        yield Offer(signed, None)
        return
    if not trust_hints:
        return
    found = (_delta((*one.hint_deltas, *one.signed_deltas), bases) for one in _hinting(vouched))
    hints = dict.fromkeys(source for source in found if source is not None)
    for source in list(hints)[:_MAX_HINTS]:
        yield Offer(source, None)


def _delta(lines: Iterable[DeltaLine], bases: Set[str]) -> DeltaSource | None:
    for line in lines:
        if line.base in bases and (capability := _capability(line.urn)) is not None:
            return DeltaSource(line.base, capability)
    return None


def _hinting(vouched: Vouched) -> Sequence[Narinfo]:
    """Whose hints count: anybody may announce a server, and each hint may cost a time-out."""
    named = [one.narinfo for one in vouched.candidates if not one.server.nearby]
    return sorted(named, key=lambda one: one is not vouched.narinfo)


def _shown(capability: ReadCapability) -> str:
    return capability.to_urn()[:_URN_START] + _REST


def _capability(urn: str | None) -> ReadCapability | None:
    try:
        return ReadCapability.from_urn(urn) if urn else None
    except InvalidCapability:
        return None
