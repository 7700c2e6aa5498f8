"""GET and PUT of `blocks`, recognised by their option bytes.

The requests that matter come in a handful of exact shapes. Recognising one costs a look at its
length and one comparison; whatever differs in a single byte takes the aiocoap lane, which answers
the same, only slower (a differential test holds the two together).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from eris.base32 import parse_base32_reference
from eris.model import REFERENCE_SIZE, BlockSize, Reference
from kapla.coap.blocks import BLOCKS_PATHS, LENT_BEFORE_BLOCK
from kapla.coap.frame import Code, Option, OptionNumber, encode_options, encode_uint, format_header

__all__ = [
    "answer_block",
    "answer_empty",
    "answer_lent_block",
    "put_payload_start",
    "relayed_reference",
    "requested_reference",
]

_PAYLOAD_MARKER: Final = b"\xff"


class _GetShape(NamedTuple):
    """Option bytes of a GET: `prefix`, the reference (raw or Base32), `suffix`."""

    prefix: bytes
    raw: bool
    suffixes: frozenset[bytes]


def _path_bytes(path: tuple[str, ...]) -> bytes:
    return encode_options((OptionNumber.URI_PATH, part.encode()) for part in path)


def _get_shapes(more: Sequence[Option] = ()) -> dict[int, _GetShape]:
    """All shapes of a GET by their length, which tells them apart; `more`: behind the query."""
    shapes: dict[int, _GetShape] = {}
    for path in BLOCKS_PATHS:
        options = [(int(OptionNumber.URI_PATH), part.encode()) for part in path]
        for raw, width in ((True, REFERENCE_SIZE), (False, 52)):
            query = (int(OptionNumber.URI_QUERY), bytes(width))
            prefix = encode_options([*options, query])[:-width]
            sizes = [
                encode_options([*options, query, *more]),
                *(
                    encode_options(
                        [*options, query, *more, (OptionNumber.SIZE1, encode_uint(size))]
                    )
                    for size in BlockSize
                ),
            ]
            for whole in sizes:
                suffix = whole[len(prefix) + width :]
                known = shapes.get(len(whole))
                suffixes = (known.suffixes if known else frozenset()) | {suffix}
                shapes[len(whole)] = _GetShape(prefix, raw, suffixes)
    return shapes


_GET_SHAPES: Final = _get_shapes()
# The value of the Hop-Limit is any but zero.
_RELAYED_SHAPES: Final = _get_shapes([(OptionNumber.HOP_LIMIT, b"\x01")])
_PUT_PREFIXES: Final = tuple(_path_bytes(path) + _PAYLOAD_MARKER for path in BLOCKS_PATHS)
_PUT_SIZES: Final = {
    len(prefix) + size: (prefix, len(prefix)) for prefix in _PUT_PREFIXES for size in BlockSize
}


def _block_headers(before: bytes) -> dict[tuple[int, int], bytes]:
    """Of answers with a block, by its size and the length of the token."""
    return {
        (size, token_length): format_header(Code.CONTENT, token_length, len(before) + size)
        for size in map(int, BlockSize)
        for token_length in range(9)
    }


_BLOCK_HEADERS: Final = _block_headers(_PAYLOAD_MARKER)
_LENT_HEADERS: Final = _block_headers(LENT_BEFORE_BLOCK)


def requested_reference(buffer: bytes, start: int, stop: int) -> Reference | None:
    """The reference asked for, if the bytes are those of a common GET; else None."""
    shape = _GET_SHAPES.get(stop - start)
    if shape is None or not buffer.startswith(shape.prefix, start):
        return None
    at = start + len(shape.prefix)
    if shape.raw:
        end = at + REFERENCE_SIZE
        return Reference(buffer[at:end]) if buffer[end:stop] in shape.suffixes else None
    end = at + 52
    if buffer[end:stop] not in shape.suffixes:
        return None
    try:
        return Reference(parse_base32_reference(buffer[at:end]))
    except ValueError:
        return None


def relayed_reference(buffer: bytes, start: int, stop: int) -> tuple[Reference, int] | None:
    """The reference and the Hop-Limit, 1 to 255, of a common GET that has one; else None."""
    shape = _RELAYED_SHAPES.get(stop - start)
    if shape is None or not buffer.startswith(shape.prefix, start):
        return None
    at = start + len(shape.prefix)
    end = at + (REFERENCE_SIZE if shape.raw else 52)
    hops = buffer[end + 1]
    if not hops or buffer[end : end + 1] + b"\x01" + buffer[end + 2 : stop] not in shape.suffixes:
        return None
    if shape.raw:
        return Reference(buffer[at:end]), hops
    try:
        return Reference(parse_base32_reference(buffer[at:end])), hops
    except ValueError:
        return None


def put_payload_start(buffer: bytes, start: int, stop: int) -> int | None:
    """Where the block begins, if the bytes are those of a common PUT; else None."""
    known = _PUT_SIZES.get(stop - start)
    if known is None or not buffer.startswith(known[0], start):
        return None
    return start + known[1]


def answer_block(token: bytes, block: bytes) -> bytes:
    """A 2.05 with a block of 1 KiB or 32 KiB; anything else is damage, and counts as not there."""
    header = _BLOCK_HEADERS.get((len(block), len(token)))
    if header is None:
        return answer_empty(Code.NOT_FOUND, token)
    return b"".join((header, token, _PAYLOAD_MARKER, block))


def answer_lent_block(token: bytes, block: bytes) -> bytes:
    """The same with the option that says that the block may be given on."""
    header = _LENT_HEADERS.get((len(block), len(token)))
    if header is None:
        return answer_empty(Code.NOT_FOUND, token)
    return b"".join((header, token, LENT_BEFORE_BLOCK, block))


def answer_empty(code: int, token: bytes) -> bytes:
    """A response without options and payload."""
    return bytes((len(token), code)) + token
