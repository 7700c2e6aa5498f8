"""How the targets take an input apart: where its pieces end is part of the input."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

__all__ = ["BYTE_BY_BYTE", "WHOLE", "as_text", "cut", "turns"]

WHOLE = b"\0"
"""What a seed begins with that is to be fed at once."""

BYTE_BY_BYTE = b"\1"

_LARGEST_PIECE = 64


def cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """What stands behind the first byte, and that in pieces as the first byte says."""
    how, body = data[:1] or WHOLE, data[1:]
    if how == WHOLE:
        return body, [body]
    if how == BYTE_BY_BYTE:
        return body, [body[at : at + 1] for at in range(len(body))]
    return body, list(_pieces(body, Random(how[0])))


def _pieces(body: bytes, random: Random) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        # Empty pieces too: a reader must bear them.
        size = random.randrange(_LARGEST_PIECE)
        yield body[at : at + size]
        at += size


def turns(data: bytes) -> Iterator[bytes]:
    """Parts of a dialogue: each has its length, two bytes, in front."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "little")
        yield data[at + 2 : at + 2 + size]
        at += 2 + size


def as_text(data: bytes) -> str:
    """Any text at all, bytes that are no UTF-8 included."""
    return data.decode("utf-8", "surrogateescape")
