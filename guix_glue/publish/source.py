"""Where replies about items come from: this machine's store, or other servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from guix_glue.formats.compression import Compression
from guix_glue.serving.reply import Reply

__all__ = ["Source"]


class Source(Protocol):
    """Answers what is asked about items; None for what is not there.

    All of them raise GuixError or OSError when they cannot tell.
    """

    def expect(self, hash_parts: Sequence[str]) -> None:
        """Their narinfos will be asked for in a moment; a source may begin to look for them."""

    async def narinfo(self, hash_part: str) -> Reply | None:
        """The narinfo of the item with this hash part."""

    async def listing(self, hash_part: str) -> Reply | None:
        """What is in the item with this hash part, as Nix lists it."""

    async def nar(self, base_name: str, method: Compression) -> Reply | None:
        """The nar of an item, compressed by this method."""

    async def fixed_file(self, name: str, sha256: bytes) -> Reply | None:
        """The content of a fixed-output item that is one file, found by its own hash."""

    async def build_log(self, base_name: str) -> Reply | None:
        """The log of an item's build, or of a derivation's."""

    async def urn(self, hash_part: str) -> str | None:
        """The URN of an item, as far as it was computed here; nobody else is asked."""

    async def expire(self, before: float) -> None:
        """Forget what was not used since a time (seconds of the epoch) and has gone."""

    async def sweep(self) -> None:
        """Remove what a server that was killed has left in the cache."""

    async def close(self) -> None:
        """End what is under way."""
