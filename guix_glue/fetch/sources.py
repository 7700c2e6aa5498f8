"""Where an item can be got from, in the order in which that is tried. Pure.

Blocks first, if there is a store to ask: under the URN that is signed, or, where none is and the
user trusts hints to be worth a try, under those that servers add which somebody named. Then the
nars, server by server, of each server the one that is least to download. Whatever is got is
compared with the signed hash, so that the order is a matter of cost only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from eris.capability import ReadCapability
from eris.errors import InvalidCapability
from guix_glue.fetch.narinfos import Vouched
from guix_glue.formats.narinfo import Narinfo
from guix_glue.servers.nars import NarSource, nar_sources

__all__ = ["ErisSource", "Offer", "Source", "download_size", "sources_of", "urn_is_readable"]

# Each hint may cost a time-out, and one server can name only one.
_MAX_HINTS: Final = 3
_URN_START: Final = len("urn:eris:") + 12
_REST: Final = "..."


@dataclass(frozen=True, slots=True)
class ErisSource:
    """An ERIS-FS tree."""

    capability: ReadCapability

    @property
    def shown(self) -> str:
        """The beginning of its URN: enough to tell it from others, not to read it."""
        return self.capability.to_urn()[:_URN_START] + _REST


Source = ErisSource | NarSource


@dataclass(frozen=True, slots=True)
class Offer:
    """A source, and the narinfo that names it; None for what is no more than a hint."""

    source: Source
    narinfo: Narinfo | None


def sources_of(vouched: Vouched, *, eris: bool, trust_hints: bool) -> Iterator[Offer]:
    """All sources, best first; `eris` tells whether there is a store to ask for blocks."""
    if eris:
        yield from _eris_sources(vouched, trust_hints)
    seen: set[str] = set()
    for offer in _nars(vouched):
        if offer.source.url not in seen:
            seen.add(offer.source.url)
            yield Offer(offer.source, offer.narinfo)


def urn_is_readable(narinfo: Narinfo) -> bool:
    """Whether blocks can be asked for by the URN that is signed, if there is one."""
    return not narinfo.signed_urn or _capability(narinfo.signed_urn) is not None


def download_size(vouched: Vouched, *, eris: bool, trust_hints: bool) -> int | None:
    """What the daemon is told of the download: its bytes, 0 if nobody knows; None if none."""
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


def _eris_sources(vouched: Vouched, trust_hints: bool) -> Iterator[Offer]:
    signed = _capability(vouched.narinfo.signed_urn)
    if signed is not None:
        yield Offer(ErisSource(signed), vouched.narinfo)
        return
    if not trust_hints:
        return
    # Anybody may announce a server, and each hint may cost a time-out.
    named = [one.narinfo for one in vouched.candidates if not one.server.nearby]
    narinfos = sorted(named, key=lambda one: one is not vouched.narinfo)
    # Signed or not: nobody has looked at the signatures of the others.
    hints = {urn: None for one in narinfos for urn in (one.hint_urn, one.signed_urn) if urn}
    capabilities = [capability for urn in hints if (capability := _capability(urn)) is not None]
    for capability in capabilities[:_MAX_HINTS]:
        yield Offer(ErisSource(capability), None)


def _capability(urn: str | None) -> ReadCapability | None:
    try:
        return ReadCapability.from_urn(urn) if urn else None
    except InvalidCapability:
        return None
