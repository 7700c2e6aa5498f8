"""Whose word counts for an item: keys of Guix, in an access list, and public keys of Nix.

A narinfo is believed by the one or the other. Guix signs a text, with all that stands in it; Nix a
fixed set of facts: path, hash, size and references. Nobody needs to sign for an item whose path
follows from the hash of its nar. Whatever the signature that counts does not cover is a hint from
then on, wherever it stands: anybody can write lines above a signature that is never checked. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from guix_glue.errors import NotAuthorized, SignatureRejected
from guix_glue.formats.narinfo import MAX_DELTAS, Narinfo
from guix_glue.formats.store_path import fixed_output_path, format_hash
from guix_glue.trust.acl import Acl
from guix_glue.trust.nix_keys import NixPublicKey
from guix_glue.trust.signature import verify_narinfo

__all__ = ["Authorities", "disbelieved"]

_NIX_COVERS: Final = frozenset({"StorePath", "NarHash", "NarSize", "References"})
_PROVEN: Final = frozenset({"StorePath", "NarHash", "References"})
_MOST_TRIED: Final = 16
"""Signatures of Nix in one narinfo that are by the name of a key of ours: each costs arithmetic."""


@dataclass(frozen=True, slots=True)
class Authorities:
    """The keys whose word counts."""

    acl: Acl = field(default_factory=Acl)
    nix_keys: tuple[NixPublicKey, ...] = ()

    @property
    def has_keys(self) -> bool:
        """Whether anybody is believed at all."""
        return bool(self.acl.keys or self.nix_keys)

    def believed(self, narinfo: Narinfo) -> Narinfo:
        """The narinfo as far as it is vouched for; its text stays as it is.

        What a signature of Nix does not cover is not among the signed fields, and URNs are hints.
        A signature of Guix beside it that does not count is none.
        Raises: SignatureRejected.
        """
        try:
            verify_narinfo(narinfo, self.acl)
        except SignatureRejected:
            if self._signed_for_nix(narinfo):
                return _without_guix(narinfo, _NIX_COVERS)
            if _proves_itself(narinfo):
                return _without_guix(narinfo, _PROVEN)
            if self.nix_keys and narinfo.signature is None and narinfo.nix_signatures:
                raise NotAuthorized("none of its Sig lines is by a trusted key") from None
            raise
        return narinfo

    def is_signed(self, narinfo: Narinfo) -> bool:
        """Whether one of these keys has signed it."""
        try:
            verify_narinfo(narinfo, self.acl)
        except SignatureRejected:
            return self._signed_for_nix(narinfo)
        return True

    def _signed_for_nix(self, narinfo: Narinfo) -> bool:
        named = (
            (key, signature)
            for signature in narinfo.nix_signatures
            for key in self.nix_keys
            if signature.startswith(f"{key.name}:")
        )
        return any(
            key.verify(signature, narinfo.item) for key, signature in islice(named, _MOST_TRIED)
        )


def disbelieved(narinfo: Narinfo) -> Narinfo:
    """The narinfo where nobody is believed: nothing in it counts as signed, and URNs are hints."""
    return _as_hints(narinfo, frozenset())


def _proves_itself(narinfo: Narinfo) -> bool:
    """Whether its path is that of a nar with this hash, without references, as Nix says in `CA`."""
    item = narinfo.item
    if item.references or narinfo.ca != f"fixed:r:{format_hash(item.nar_hash)}":
        return False
    name, digest = item.name, item.nar_hash
    return item.path == fixed_output_path(item.store_dir, name, digest, recursive=True)


def _without_guix(narinfo: Narinfo, covered: frozenset[str]) -> Narinfo:
    return replace(_as_hints(narinfo, covered), signature=None, signed_text=None)


def _as_hints(narinfo: Narinfo, covered: frozenset[str]) -> Narinfo:
    deltas = (*narinfo.signed_deltas, *narinfo.hint_deltas)
    return replace(
        narinfo,
        signed_fields=covered,
        signed_urn=None,
        hint_urn=narinfo.signed_urn or narinfo.hint_urn,
        signed_deltas=(),
        hint_deltas=deltas[:MAX_DELTAS],
    )
