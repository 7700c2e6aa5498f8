"""What is noted of a narinfo that everybody may have: that it is public, and its signed URN.

Only a URN that is signed counts, as a hint may be anybody's. It is public as the narinfo is.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from eris.capability import ReadCapability
from eris.errors import InvalidCapability
from eris.model import CAPABILITY_SIZE
from guix_glue.formats.narinfo import Narinfo
from guix_glue.kept.public_items import PublicItems
from guix_glue.local.user_caches import public_urns_file

__all__ = ["PublicNotes"]


class PublicNotes:
    """The file `path`, and the one beside it with the read capabilities. Nothing here fails."""

    def __init__(self, path: str) -> None:
        self.items = PublicItems(Path(path))
        self.urns = PublicItems(Path(public_urns_file(path)), noted=CAPABILITY_SIZE)

    def stamp(self) -> object:
        """Is another when there is something new."""
        return self.items.stamp(), self.urns.stamp()

    def note(self, narinfo: Narinfo) -> None:
        """Note an item whose narinfo is signed, and public."""
        item = narinfo.item
        self.items.note(item.hash_part, item.nar_hash)
        if narinfo.signed_urn is not None:
            with suppress(InvalidCapability):
                capability = ReadCapability.from_urn(narinfo.signed_urn)
                self.urns.note(item.hash_part, item.nar_hash, capability.to_bytes())
