"""Writes and signs narinfos. The newest are kept: signing the same text gives the same bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from guix_glue.formats.narinfo import DeltaLine, NarUrl, format_narinfo, format_unsigned
from guix_glue.model import StoreItem
from guix_glue.trust.keys import PrivateKey
from guix_glue.trust.nix_keys import NixSecretKey
from guix_glue.trust.signature import sign_text

__all__ = ["NarinfoWriter", "SigningKeys"]

_KEPT: Final = 10_000
"""Some 1.5 KB each."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """What narinfos are signed with, if anything.

    `public` is the text of the public key, for who asks: that of Guix, or of Nix if that is all.
    """

    host: str
    public: bytes | None = None
    guix: PrivateKey | None = field(default=None, repr=False)
    nix: NixSecretKey | None = field(default=None, repr=False)


class NarinfoWriter:
    """Narinfos of one publisher; `for_nix` if Nix reads them, whoever signs."""

    def __init__(self, keys: SigningKeys, *, for_nix: bool = False) -> None:
        self._keys = keys
        self._for_nix = for_nix or keys.nix is not None
        self._kept: OrderedDict[str, tuple[object, bytes]] = OrderedDict()

    def write(
        self,
        item: StoreItem,
        urls: Sequence[NarUrl],
        urn: str | None,
        deltas: Sequence[DeltaLine] = (),
    ) -> bytes:
        """The narinfo of an item, signed; `urn` and deltas stand in the signed part.

        Of Nix there is no such part: deltas are hints there. What others have signed of the item
        for Nix stands beside our own signature.

        Guix takes the smallest nar, wherever it stands, and Nix the last one: so for Nix that is
        the smallest.
        """
        if self._for_nix:
            urls = sorted(urls, key=lambda url: -(url.file_size or 0))
        facts = (item, tuple(urls), urn, tuple(deltas))
        known = self._kept.get(item.hash_part)
        if known is not None and known[0] == facts:
            self._kept.move_to_end(item.hash_part)
            return known[1]
        text = self._sign(item, urls, urn, deltas)
        self._kept[item.hash_part] = facts, text
        self._kept.move_to_end(item.hash_part)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return text

    def _sign(
        self,
        item: StoreItem,
        urls: Sequence[NarUrl],
        urn: str | None,
        deltas: Sequence[DeltaLine],
    ) -> bytes:
        keys = self._keys
        ours = () if keys.nix is None else (keys.nix.sign(item),)
        of_nix = tuple(dict.fromkeys((*ours, *item.signatures)))
        address = item.content_address
        if keys.guix is None:
            return format_narinfo(
                format_unsigned(item, urn),
                None,
                urls,
                hint_deltas=deltas,
                nix_signatures=of_nix,
                content_address=address,
            )
        signed = format_unsigned(item, urn, deltas)
        signature = sign_text(keys.guix, signed, keys.host)
        return format_narinfo(
            signed, signature, urls, nix_signatures=of_nix, content_address=address
        )
