"""What is noted of a narinfo that everybody may have: that it is public, and its signed URN.

A hint may be anybody's: so only a URN counts that is signed, or by which the item came, since what
it leads to was then compared with the signed hash. It is public as the narinfo is.
"""

from __future__ import annotations

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

    def note(self, narinfo: Narinfo, came_by: ReadCapability | None = None) -> None:
        """Note an item whose narinfo is signed, and public; `came_by`: what was found to be it."""
        item = narinfo.item
        self.items.note(item.hash_part, item.nar_hash)
        capability = came_by or _signed(narinfo)
        if capability is not None:
            self.urns.note(item.hash_part, item.nar_hash, capability.to_bytes())


def _signed(narinfo: Narinfo) -> ReadCapability | None:
    if narinfo.signed_urn is None:
        return None
    try:
        return ReadCapability.from_urn(narinfo.signed_urn)
    except InvalidCapability:
        return None
