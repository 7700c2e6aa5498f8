"""Signatures of items in archives: those that came with them, else this machine's own. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from guix_glue.closures.wanted import Wanted
from guix_glue.errors import SignatureRejected
from guix_glue.trust.acl import Acl
from guix_glue.trust.keys import PrivateKey
from guix_glue.trust.signature import sign_digest, stated_digest, verify_digest

__all__ = ["ArchiveSigner"]


@dataclass(frozen=True, slots=True)
class ArchiveSigner:
    """Signs with `key`, if there is one, what has no signature that counts.

    Those of the keys in `acl` count; without one any does: whoever imports the archive will judge.
    """

    key: PrivateKey | None = field(repr=False)
    acl: Acl | None

    def sign(self, wanted: Wanted, digest: bytes) -> bytes | None:
        """The signature of an item, of which the SHA-256 is given; None if it has none.

        Raises: SignatureRejected, if the one that came with it is of something else.
        """
        given = wanted.archive_signature
        if given is not None and self._counts(given):
            if stated_digest(given) == digest:
                return given
            if self.key is None:
                name = wanted.item.base_name
                raise SignatureRejected(f"that of the archive of {name} is of another one")
        return None if self.key is None else sign_digest(self.key, digest)

    def lacking(self, wanted: Sequence[Wanted]) -> list[str]:
        """The base names of those that will have no signature that counts."""
        if self.key is not None and (self.acl is None or self.acl.authorizes(self.key.public)):
            return []
        return [
            one.item.base_name
            for one in wanted
            if one.archive_signature is None or not self._counts(one.archive_signature)
        ]

    def _counts(self, signature: bytes) -> bool:
        try:
            if self.acl is None:
                return stated_digest(signature) is not None
            verify_digest(signature, None, self.acl)
        except SignatureRejected:
            return False
        return True
