"""Whether what is said of an item counts: by the keys that this machine has for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from guix_glue.errors import SignatureRejected
from guix_glue.formats.narinfo import Narinfo
from guix_glue.model import StoreItem
from guix_glue.trust.authorities import Authorities

__all__ = ["Belief"]


@dataclass(frozen=True, slots=True)
class Belief:
    """The keys that count; or, without `checks`, whatever is said."""

    authorities: Authorities
    checks: bool = True

    def item(self, narinfo: Narinfo) -> StoreItem:
        """What counts of what a narinfo says: a deriver only if it is signed.

        Raises: SignatureRejected.
        """
        if not self.checks:
            return narinfo.item
        signed = self.authorities.believed(narinfo).signed_fields
        if "NarSize" not in signed:
            # It says how much is written before the hash can be compared.
            raise SignatureRejected("the signature does not cover NarSize")
        return narinfo.item if "Deriver" in signed else replace(narinfo.item, deriver=None)
