"""The archive that `guix archive --import` and `nix-store --import` read, without its nars: pure.

Of each item there stand a word (1), its nar, and its end: what it is called, what it refers to and
what built it, and maybe a signature; after the last one a word (0). The signature covers the nar
and the end up to itself, as one row of bytes. Guix takes no item without one; Nix looks at none.

Words are 64 bits, little-endian; strings are as in a nar.
Source: Guix and Nix, as `guix archive --export` and `nix-store --export` write it.
"""

from __future__ import annotations

from typing import Final

from guix_glue.formats.nar.layout import LENGTH, format_string
from guix_glue.model import StoreItem

__all__ = ["ARCHIVE_END", "ITEM_BEGIN", "item_end", "item_size", "signature_part"]

ITEM_BEGIN: Final = LENGTH.pack(1)
"""Stands before each nar."""
ARCHIVE_END: Final = LENGTH.pack(0)
"""Stands behind the last item."""

_MAGIC: Final = LENGTH.pack(0x4558494E)


def item_end(item: StoreItem) -> bytes:
    """What follows the nar of an item, up to its signature; a signature covers this, too."""
    references = sorted({f"{item.store_dir}/{name}" for name in item.references})
    deriver = "" if item.deriver is None else f"{item.store_dir}/{item.deriver}"
    return b"".join(
        (
            _MAGIC,
            format_string(item.path.encode()),
            LENGTH.pack(len(references)),
            *(format_string(reference.encode()) for reference in references),
            format_string(deriver.encode()),
        )
    )


def signature_part(signature: bytes | None) -> bytes:
    """What follows `item_end`: a signature, an s-expression in text, or that there is none."""
    if signature is None:
        return LENGTH.pack(0)
    return LENGTH.pack(1) + format_string(signature)


def item_size(item: StoreItem, signature_size: int = 0) -> int:
    """About how many bytes an item takes in an archive."""
    return len(ITEM_BEGIN) + item.nar_size + len(item_end(item)) + 2 * LENGTH.size + signature_size
