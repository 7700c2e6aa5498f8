"""Where an item can be got from, in the order in which that is tried. Pure.

Blocks first, if there is a store to ask: under the URN that is signed, or, where none is and the
user trusts hints to be worth a try, under those that servers add. Then the nars, server by server,
of each server the one that is least to download. Whatever is got is compared with the signed hash,
so that the order is a matter of cost only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from eris.capability import ReadCapability
from eris.errors import InvalidCapability
from guix_glue.fetch.narinfos import Candidate, Vouched
from guix_glue.formats.compression import Compression
from guix_glue.formats.narinfo import NarUrl
from guix_glue.servers.url import InvalidServer, Server

__all__ = ["ErisSource", "NarSource", "Source", "download_size", "sources_of"]

# Without sizes: what compresses best first, as the stock client has it.
_RANK: Final = {
    Compression.LZIP: 0,
    Compression.XZ: 1,
    Compression.BZIP2: 1,
    Compression.ZSTD: 1,
    Compression.GZIP: 2,
    Compression.NONE: 3,
}

# Each hint may cost a time-out, and one server can name only one.
_MAX_HINTS: Final = 3
_URN_START: Final = len("urn:eris:") + 12


@dataclass(frozen=True, slots=True)
class ErisSource:
    """An ERIS-FS tree."""

    capability: ReadCapability
    signed: bool

    @property
    def shown(self) -> str:
        """The beginning of its URN: enough to tell it from others, not to read it."""
        return self.capability.to_urn()[:_URN_START] + "..."


@dataclass(frozen=True, slots=True)
class NarSource:
    """A nar. `url` is whole, without user and password; `path` set for a file of this machine."""

    url: str
    compression: Compression
    file_size: int | None
    path: str | None = None
    authorization: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """Its URL."""
        return self.url


Source = ErisSource | NarSource


def sources_of(vouched: Vouched, *, eris: bool, trust_hints: bool) -> Iterator[Source]:
    """All sources, best first; `eris` tells whether there is a store to ask for blocks."""
    if eris:
        yield from _eris_sources(vouched, trust_hints)
    seen: set[str] = set()
    for candidate in vouched.candidates:
        for source in _nar_sources(candidate):
            if source.url not in seen:
                seen.add(source.url)
                yield source


def download_size(vouched: Vouched, *, eris: bool, trust_hints: bool) -> int | None:
    """What the daemon is told of the download: its bytes, 0 if nobody knows; None if none."""
    nars = [one for candidate in vouched.candidates for one in _nar_sources(candidate)]
    if nars:
        return nars[0].file_size or 0
    blocks = eris and next(_eris_sources(vouched, trust_hints), None) is not None
    return 0 if blocks else None


def _eris_sources(vouched: Vouched, trust_hints: bool) -> Iterator[ErisSource]:
    signed = _capability(vouched.narinfo.signed_urn)
    if signed is not None:
        yield ErisSource(signed, signed=True)
        return
    if not trust_hints:
        return
    narinfos = [vouched.narinfo, *(one.narinfo for one in vouched.candidates)]
    # Signed or not: nobody has looked at the signatures of the others.
    hints = {urn: None for one in narinfos for urn in (one.hint_urn, one.signed_urn) if urn}
    capabilities = [capability for urn in hints if (capability := _capability(urn)) is not None]
    for capability in capabilities[:_MAX_HINTS]:
        yield ErisSource(capability, signed=False)


def _capability(urn: str | None) -> ReadCapability | None:
    try:
        return ReadCapability.from_urn(urn) if urn else None
    except InvalidCapability:
        return None


def _nar_sources(candidate: Candidate) -> list[NarSource]:
    """The nars that one server offers and that we can read, best first."""
    tried = (_nar_source(candidate.server, one) for one in candidate.narinfo.urls)
    found = [source for source in tried if source is not None]
    if all(source.file_size is not None for source in found):
        return sorted(found, key=lambda source: source.file_size or 0)
    return sorted(found, key=lambda source: _RANK[source.compression])


def _nar_source(server: Server, nar: NarUrl) -> NarSource | None:
    try:
        compression = Compression(nar.compression)
        url = server.locate(nar.url)
    except (ValueError, InvalidServer):
        return None
    local = server.origin is None and url.startswith("file:")
    return NarSource(
        url,
        compression,
        nar.file_size,
        path=f"{server.path}/{nar.url.lstrip('/')}" if local else None,
        authorization=server.authorization if not local and server.owns(url) else None,
    )
