"""What a cache of contents keeps of a pack: a capability and references there, more here.

A cache takes 66 bytes and some references for each content, and looks at neither. A pack has a
stored size and several capabilities, which are put in their places: 66 bytes for the numbers, then
the capabilities, filled up to a whole number of references, and the references.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from eris.model import CAPABILITY_SIZE, REFERENCE_SIZE, Reference
from eris_fs.known import Known
from eris_fs.packed.cost import MAX_PACK_SIZE, piece_count

__all__ = ["format_record", "parse_record"]

_HEAD: Final = Struct("<Q58x")
assert _HEAD.size == CAPABILITY_SIZE


def format_record(stored_size: int, capabilities: bytes, references: list[Reference]) -> Known:
    """Write what became of a pack."""
    filled = -len(capabilities) % REFERENCE_SIZE
    return _HEAD.pack(stored_size), capabilities + bytes(filled) + b"".join(references)


def parse_record(known: Known) -> tuple[int, bytes, list[Reference]] | None:
    """Read it: stored size, capabilities, references; None for what is no such record."""
    head, rest = known
    (stored_size,) = _HEAD.unpack(head)
    if not 1 <= stored_size <= MAX_PACK_SIZE:
        return None
    size = piece_count(stored_size) * CAPABILITY_SIZE
    start = size + -size % REFERENCE_SIZE
    if start >= len(rest) or len(rest) % REFERENCE_SIZE:
        return None
    references = [
        Reference(rest[at : at + REFERENCE_SIZE]) for at in range(start, len(rest), REFERENCE_SIZE)
    ]
    return stored_size, rest[:size], references
