"""What stands in a list of an item that was encoded: its narinfo, and who vouches for it.

This machine signs with the keys that it has. Where it has none, what others have signed goes along,
if it says the same of the item.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from guix_glue.formats.item_list import export_signature_line
from guix_glue.formats.narinfo import Narinfo, format_narinfo, format_unsigned
from guix_glue.model import StoreItem
from guix_glue.trust.keys import PrivateKey
from guix_glue.trust.nix_keys import NixSecretKey
from guix_glue.trust.signature import sign_digest, sign_text

__all__ = ["Recorder"]


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes narinfos for a list; `host` is named in signatures of Guix."""

    host: str
    guix: PrivateKey | None = field(default=None, repr=False)
    nix: NixSecretKey | None = field(default=None, repr=False)

    @property
    def signs(self) -> bool:
        """Whether it has a key."""
        return self.guix is not None or self.nix is not None

    def record(
        self, item: StoreItem, urn: str, archive_digest: bytes, said: Narinfo | None = None
    ) -> bytes:
        """The narinfo of an item; `archive_digest` is what its signature in an archive is of.

        `said` is what a server says of it, which counts if it is of the very same item. Takes some
        milliseconds where there is a key.
        """
        sigs = item.signatures
        if said is not None and _is_same(item, said.item):
            sigs = tuple(dict.fromkeys((*sigs, *said.nix_signatures)))
        if self.nix is not None:
            sigs = (*sigs, self.nix.sign(item))
        known = item.content_address
        if self.guix is not None:
            unsigned = format_unsigned(item, urn)
            signature = sign_text(self.guix, unsigned, self.host)
            text = format_narinfo(
                unsigned, signature, (), nix_signatures=sigs, content_address=known
            )
            return text + export_signature_line(sign_digest(self.guix, archive_digest))
        if said is not None and said.signed_text is not None and _is_same(item, said.item):
            hint = None if said.signed_urn == urn else urn
            return format_narinfo(
                said.signed_text, said.signature, (), hint=hint, nix_signatures=sigs
            )
        unsigned = format_unsigned(item, urn)
        return format_narinfo(unsigned, None, (), nix_signatures=sigs, content_address=known)


def _is_same(item: StoreItem, other: StoreItem) -> bool:
    return (
        item.path == other.path
        and item.nar_hash == other.nar_hash
        and item.nar_size == other.nar_size
        and sorted(item.references) == sorted(other.references)
    )
