"""Whether what is said of an item counts: by the keys that this machine has for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from guix_glue.errors import SignatureRejected
from guix_glue.formats.narinfo import Narinfo
from guix_glue.model import StoreItem
from guix_glue.trust.acl import Acl
from guix_glue.trust.nix_keys import NixPublicKey
from guix_glue.trust.signature import verify_narinfo

__all__ = ["Belief"]


@dataclass(frozen=True, slots=True)
class Belief:
    """Keys of Guix, keys of Nix; or, without `checks`, whatever is said."""

    acl: Acl
    nix_keys: tuple[NixPublicKey, ...] = ()
    checks: bool = True

    def item(self, narinfo: Narinfo) -> StoreItem:
        """What counts of what a narinfo says: a deriver only if it is signed.

        Raises: SignatureRejected.
        """
        item = narinfo.item
        if not self.checks:
            return item
        try:
            verify_narinfo(narinfo, self.acl)
        except SignatureRejected:
            if self._is_signed_for_nix(narinfo):
                return replace(item, deriver=None)
            raise
        if "NarSize" not in narinfo.signed_fields:
            # It says how much is written before the hash can be compared.
            raise SignatureRejected("the signature does not cover NarSize")
        return item if "Deriver" in narinfo.signed_fields else replace(item, deriver=None)

    def _is_signed_for_nix(self, narinfo: Narinfo) -> bool:
        return any(
            key.verify(signature, narinfo.item)
            for signature in narinfo.nix_signatures
            for key in self.nix_keys
        )
