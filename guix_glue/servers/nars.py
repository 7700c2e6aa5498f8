"""Which nars of those that a server offers can be read, and which is least to download. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from guix_glue.errors import GuixError, HashMismatch, TemporaryFailure
from guix_glue.formats.compression import Compression
from guix_glue.formats.narinfo import NarUrl
from guix_glue.servers.url import InvalidServer, Server

__all__ = ["NarEnd", "NarSource", "nar_sources"]

# Without sizes: what compresses best first, as the stock client has it.
_RANK: Final = {
    Compression.LZIP: 0,
    Compression.XZ: 1,
    Compression.BZIP2: 1,
    Compression.ZSTD: 1,
    Compression.GZIP: 2,
    Compression.NONE: 3,
}


@dataclass(frozen=True, slots=True)
class NarSource:
    """A nar. `url` is whole, without user and password; `path` set for a file of this machine."""

    url: str
    compression: Compression
    file_size: int | None
    path: str | None = None
    authorization: str | None = field(default=None, repr=False)
    nearby: bool = False
    """Whether its server was found on the local network, and is anybody's."""

    @property
    def shown(self) -> str:
        """Its URL."""
        return self.url


@dataclass(slots=True)
class NarEnd:
    """How a nar ended, the last time that it was tried.

    One that is too short may be one whose connection was lost, if the server did not tell where its
    end is; and one that was put together may be of two.
    """

    told: bool = True
    """Whether the server told where the end is, or merely closed the connection."""
    resumed: bool = False
    """Whether it came in several parts."""
    whole: bool = False
    """Whether it is to come in one piece, since parts did not fit together."""

    def begin(self) -> None:
        """It is tried from the beginning."""
        self.told, self.resumed = True, False

    def judge(self, error: GuixError) -> GuixError:
        """What an error is of a nar that came and is wrong; the next try heeds it."""
        if self.resumed:
            self.whole = True
            return TemporaryFailure(f"its parts do not fit together: {error}")
        if self.told or isinstance(error, HashMismatch):
            return error
        return TemporaryFailure(f"the connection may be lost: {error}")


def nar_sources(server: Server, urls: Iterable[NarUrl]) -> list[NarSource]:
    """The nars that a narinfo of the server names and that we can read, best first."""
    tried = (_nar_source(server, one) for one in urls)
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
        nearby=server.nearby,
    )
