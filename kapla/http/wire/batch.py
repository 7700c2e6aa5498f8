"""Many blocks by one POST: what is asked, and what comes back.

The body of the request is 1 to 256 references of 32 bytes. The answer has for each, in order, the
byte 01 and the block, or the byte 00. Nothing in it tells the size of a block. It is told by its
hash: either the first 1024 bytes hash to the reference, or all 32768 do. So a reader needs no more
memory than one block and what it was just fed, and has checked whatever it gives.

A reader goes no further than the first entry that makes no sense, since the next could be anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from eris.crypto import reference_of
from eris.errors import CorruptBlock
from eris.model import REFERENCE_SIZE, BlockSize, Reference

__all__ = [
    "BATCH_PATH",
    "LENT_HEADER",
    "MAX_BODY",
    "MAX_REFERENCES",
    "BatchReader",
    "InvalidBatch",
    "format_entries",
    "format_entry",
    "format_request",
    "longest_answer",
    "parse_request",
]

BATCH_PATH: Final = "/kapla/blocks"
MAX_REFERENCES: Final = 256
MAX_BODY: Final = MAX_REFERENCES * REFERENCE_SIZE
LENT_HEADER: Final = "Kapla-Lent"
"""In an answer, with the value 1: what it gives may be given on, for here it is lent."""

_PIECE: Final = 64 * 1024
"""Of an answer, in bytes: far less than the blocks that are there at once."""

_ABSENT: Final = b"\x00"
_PRESENT: Final = b"\x01"


class InvalidBatch(ValueError):
    """A request or an answer is not what is told above; the message is the reason."""


def format_request(references: Sequence[Reference]) -> bytes:
    """Write the body of a request for 1 to 256 blocks. Raises: InvalidBatch, for other numbers."""
    _check_number(len(references))
    return b"".join(references)


def parse_request(body: bytes) -> list[Reference]:
    """Read the body of a request: its references, in order; one may be there twice.

    Raises: InvalidBatch.
    """
    if len(body) > MAX_BODY:
        _check_number(-(-len(body) // REFERENCE_SIZE))
    if len(body) % REFERENCE_SIZE:
        raise InvalidBatch(f"{len(body)} bytes are no references of {REFERENCE_SIZE} bytes each")
    _check_number(len(body) // REFERENCE_SIZE)
    starts = range(0, len(body), REFERENCE_SIZE)
    return [Reference(body[start : start + REFERENCE_SIZE]) for start in starts]


def _check_number(references: int) -> None:
    if not 1 <= references <= MAX_REFERENCES:
        raise InvalidBatch(f"{references} references; a batch has 1 to {MAX_REFERENCES}")


def format_entry(block: bytes | None) -> bytes:
    """Write the entry of one reference: its block of 1024 or 32768 bytes, or that there is none."""
    return _ABSENT if block is None else _PRESENT + block


def format_entries(blocks: list[bytes | None]) -> Iterator[bytes]:
    """Write the entries of these blocks in pieces of 64 KiB, or a block more.

    The list is used up, so that what was written is not kept beside what waits to be taken.
    """
    blocks.reverse()
    while blocks:
        piece = bytearray()
        while blocks and len(piece) < _PIECE:
            piece += format_entry(blocks.pop())
        yield bytes(piece)


def longest_answer(references: int) -> int:
    """How many bytes an answer for so many references has at most."""
    return references * (1 + BlockSize.LARGE)


class BatchReader:
    """Reads an answer as it comes: `feed` it, and then take what is complete from `entries`."""

    def __init__(self, references: Sequence[Reference]) -> None:
        self._references = tuple(references)
        self._next = 0
        self._received = bytearray()
        self._is_large = False

    @property
    def left(self) -> tuple[Reference, ...]:
        """The references that nothing was told of yet, in order."""
        return self._references[self._next :]

    def feed(self, data: bytes) -> None:
        """Add what came; `entries` is to be used up before there is more."""
        self._received += data

    def entries(self) -> Iterator[tuple[Reference, bytes | None]]:
        """Give what is complete: a reference, and its block or None.

        Raises: CorruptBlock, for the first block that is neither; InvalidBatch, if the answer says
        anything else, or goes on when all is told. Nothing comes after either.
        """
        while self._next < len(self._references) and self._received:
            reference = self._references[self._next]
            kind = self._received[:1]
            if kind == _ABSENT:
                block = None
            elif kind != _PRESENT:
                raise InvalidBatch(f"an entry begins with {kind[0]:#04x}, not with 00 or 01")
            elif (block := self._block(reference)) is None:
                return
            del self._received[: 1 + len(block or b"")]
            self._next += 1
            self._is_large = False
            yield reference, block
        if self._received and not self.left:
            raise InvalidBatch("the answer goes on when all is told")

    def finish(self) -> None:
        """The answer is over. Raises: InvalidBatch, if something is still `left`."""
        if self.left:
            raise InvalidBatch(f"the answer ends before the last {len(self.left)} blocks")

    def _block(self, reference: Reference) -> bytes | None:
        """The block of the entry that begins here; None as long as more has to come."""
        if not self._is_large:
            block = self._first(BlockSize.SMALL)
            if block is None or reference_of(block) == reference:
                return block
            # It is not looked at again with each piece that comes.
            self._is_large = True
        block = self._first(BlockSize.LARGE)
        if block is not None and reference_of(block) != reference:
            raise CorruptBlock(reference)
        return block

    def _first(self, size: BlockSize) -> bytes | None:
        return bytes(self._received[1 : 1 + size]) if len(self._received) > size else None
