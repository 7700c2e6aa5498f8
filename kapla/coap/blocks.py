"""The `blocks` resource as both ends see it: paths, queries, and errors as CoAP codes.

Source: the ERIS over CoAP document (EER), and the programs in use: see docs/wire.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from eris.base32 import format_base32_reference, parse_base32_reference
from eris.errors import (
    BlockNotFound,
    CorruptBlock,
    ErisError,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from eris.model import REFERENCE_SIZE, BlockSize, Reference
from kapla.coap.frame import Code, Option, OptionNumber, encode_options, encode_uint
from kapla.errors import NotAllowed, RequestMalformed, UnknownAnswer

__all__ = [
    "BLOCKS_PATHS",
    "BLOCK_SIZES",
    "ENDPOINT_STORE_PATH",
    "FOUND_PATH",
    "LENT_BEFORE_BLOCK",
    "MAX_FETCHED",
    "ORIGIN_PATH",
    "PEERS_PATH",
    "SEED_PATH",
    "STATUS_PAGE_PATH",
    "STATUS_PATH",
    "STAT_PATH",
    "BadRequest",
    "block_query",
    "blocks_path",
    "code_of_error",
    "diagnostic",
    "error_of_code",
    "get_options",
    "get_options_by_size",
    "pack_bitmap",
    "parse_block_query",
    "put_options",
    "split_references",
    "unpack_bitmap",
]

ENDPOINT_STORE_PATH: Final = (".well-known", "eris")
"""The store of the whole endpoint; python-eris without a path in its URL uses the root instead."""

BLOCKS_PATHS: Final = ((*ENDPOINT_STORE_PATH, "blocks"), ("blocks",))
"""Where this server answers."""

ORIGIN_PATH: Final = ("kapla", "origin")
"""Where a connection is told where its blocks came from: JSON."""

STAT_PATH: Final = ("kapla", "stat")
"""Where a local client may ask what the daemon holds: JSON."""

STATUS_PATH: Final = ("kapla", "status")
"""Where one may ask how the daemon is doing: JSON."""

STATUS_PAGE_PATH: Final = ("kapla", "page")
"""Where an administrator may ask for the URL of the page that shows it: JSON."""

PEERS_PATH: Final = ("kapla", "peers")
FOUND_PATH: Final = ("kapla", "found")
"""Where a local client may ask what the daemon's peers are: JSON."""

SEED_PATH: Final = ("kapla", "seed")
"""Where a program that can make blocks again says so."""

BLOCK_SIZES: Final = frozenset(int(size) for size in BlockSize)

LENT_BEFORE_BLOCK: Final = encode_options([(OptionNumber.LENT, b"")]) + b"\xff"
"""What stands in front of a block that may be given on."""

MAX_FETCHED: Final = 1024
"""References in one FETCH: as many bytes as the largest block."""

_BASE32_LETTERS: Final = 52
_REFERENCE: Final = Struct(f"{REFERENCE_SIZE}s")
_TO_DIGITS: Final = b"0".ljust(256, b"1")
"""Of bytes that are 0 or 1, the digits."""


class BadRequest(Exception):
    """The request makes no sense: answered with 4.00 and the message as diagnostic."""


def blocks_path(store_path: tuple[str, ...]) -> tuple[str, ...]:
    """The path of the `blocks` resource of a store."""
    return (*(store_path or ENDPOINT_STORE_PATH), "blocks")


def block_query(reference: Reference) -> bytes:
    """The Uri-Query that names a block: Base32, which every server understands."""
    return format_base32_reference(reference)


def parse_block_query(value: bytes) -> Reference:
    """Read the Uri-Query that names a block: 32 raw octets, or 52 letters of Base32.

    The length decides: any 32 octets are a reference, whatever text they may look like.
    Raises: BadRequest.
    """
    if len(value) == REFERENCE_SIZE:
        return Reference(value)
    if len(value) != _BASE32_LETTERS:
        raise BadRequest(
            f"the query has {len(value)} octets: a reference is 32 raw octets or 52 Base32 letters"
        )
    try:
        return Reference(parse_base32_reference(value))
    except ValueError:
        raise BadRequest("the query is not upper-case Base32") from None


def pack_bitmap(flags: Sequence[bool]) -> bytes:
    """Write the answer to a FETCH: a bit for each reference asked for, the first one the highest.

    1 says that the block is there; the last byte is filled up with zeroes.
    """
    bits = bytes(flags).translate(_TO_DIGITS)
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, b"0") or b"0", 2).to_bytes(size, "big")


def unpack_bitmap(data: bytes, count: int) -> list[bool]:
    """Read the answer to a FETCH for `count` references.

    Raises: ValueError, if it has another size.
    """
    if len(data) != -(-count // 8):
        raise ValueError(f"{len(data)} bytes do not tell about {count} blocks")
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    return [bit == "1" for bit in bits[:count]]


def split_references(payload: bytes) -> list[Reference]:
    """Read the payload of a FETCH: 1 to 1024 references one after another.

    Raises: BadRequest.
    """
    count, rest = divmod(len(payload), REFERENCE_SIZE)
    if rest or not 1 <= count <= MAX_FETCHED:
        raise BadRequest(f"{len(payload)} bytes: a FETCH takes 1 to {MAX_FETCHED} references")
    return [reference for (reference,) in _REFERENCE.iter_unpack(payload)]


def get_options(
    store_path: tuple[str, ...],
    query: bytes,
    block_size: int,
    hops: int = 0,
    *,
    near: bool = False,
) -> bytes:
    """The options of a GET for one block, as bytes. `hops`: the Hop-Limit; 0: none.

    `near`: whether a seed is told that somebody near wants it.
    Size1 is always sent, since one server in use demands it.
    """
    options: list[Option] = _path_options(store_path)
    options.append((OptionNumber.URI_QUERY, query))
    if hops:
        options.append((OptionNumber.HOP_LIMIT, bytes([hops])))
    options.append((OptionNumber.SIZE1, encode_uint(block_size)))
    if near:
        options.append((OptionNumber.NEAR, b""))
    return encode_options(options)


def get_options_by_size(
    store_path: tuple[str, ...], hops: int = 0, *, near: bool = False
) -> dict[BlockSize, tuple[bytes, bytes]]:
    """The options of GETs for blocks of each size: what stands before the query and what behind."""
    hole = bytes(_BASE32_LETTERS)
    found = {}
    for size in BlockSize:
        options = get_options(store_path, hole, size, hops, near=near)
        before, _, behind = options.partition(hole)
        found[size] = (before, behind)
    return found


def put_options(store_path: tuple[str, ...], hops: int = 0, *, near: bool = False) -> bytes:
    """The options of a PUT of one block, or of a FETCH. `hops` and `near`: as for a GET."""
    options = _path_options(store_path)
    if hops:
        options.append((OptionNumber.HOP_LIMIT, bytes([hops])))
    if near:
        options.append((OptionNumber.NEAR, b""))
    return encode_options(options)


def _path_options(store_path: tuple[str, ...]) -> list[Option]:
    return [
        (OptionNumber.URI_PATH, component.encode("utf-8")) for component in blocks_path(store_path)
    ]


# One table, both ways: a remote store raises what a local one would. In each row the first code is
# the one sent; the others are what other servers say for the same thing.
_CODES: Final[tuple[tuple[type[ErisError], tuple[int, ...]], ...]] = (
    (BlockNotFound, (Code.NOT_FOUND,)),
    (CorruptBlock, (Code.BAD_REQUEST,)),
    (StoreUnavailable, (Code.SERVICE_UNAVAILABLE, Code.INTERNAL_SERVER_ERROR)),
    (StoreFull, (Code.REQUEST_ENTITY_TOO_LARGE,)),
    (StoreRefused, (Code.FORBIDDEN, Code.METHOD_NOT_ALLOWED, Code.BAD_OPTION)),
)


def code_of_error(error: ErisError) -> int:
    """The response code that tells a peer of this error."""
    for kind, codes in _CODES:
        if isinstance(error, kind):
            return codes[0]
    return Code.INTERNAL_SERVER_ERROR


def diagnostic(error: ErisError) -> bytes:
    """What a peer is told beside the code. Only refusals and outages say why: it helps the user."""
    if not isinstance(error, StoreError):
        return b""
    # It may name a file whose name is no UTF-8.
    return str(error).encode("utf-8", "backslashreplace")


def error_of_code(code: int, reference: bytes, payload: bytes, *, is_get: bool = True) -> ErisError:
    """The error that a response code stands for.

    `is_get`: whether a block was asked for; to anything else, 4.04 says that the store does not do
    it.
    """
    text = "".join(c for c in payload[:200].decode("utf-8", "replace") if c.isprintable())
    told = f": {text}" if text else ""
    if code == Code.NOT_FOUND and not is_get:
        return StoreRefused(f"this store has nothing of the kind at this path{told}")
    for kind, codes in _CODES:
        if code not in codes:
            continue
        if kind is BlockNotFound:
            return BlockNotFound(reference)
        if kind is StoreFull:
            return StoreFull(text or "the store is full")
        if kind is CorruptBlock:
            return RequestMalformed(f"the store calls the request malformed{told}")
        if kind is StoreUnavailable:
            return StoreUnavailable(f"the store cannot do this now{told}")
        refused = StoreRefused if code == Code.BAD_OPTION else NotAllowed
        return refused(f"the store refuses this{told}")
    return UnknownAnswer(f"the store answered with code {code >> 5}.{code & 31:02d}{told}", code)
