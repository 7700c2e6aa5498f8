"""The `blocks` resource as both ends see it: paths, queries, and errors as CoAP codes.

Source: the ERIS over CoAP document (EER), and the programs in use: see docs/wire.md.
"""

from __future__ import annotations

from typing import Final

from eris.base32 import format_base32, parse_base32_reference
from eris.errors import (
    BlockNotFound,
    CorruptBlock,
    ErisError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from eris.model import REFERENCE_SIZE, BlockSize, Reference
from kapla.coap.frame import Code, Option, OptionNumber, encode_options, encode_uint

__all__ = [
    "BLOCKS_PATHS",
    "BLOCK_SIZES",
    "ENDPOINT_STORE_PATH",
    "BadRequest",
    "block_query",
    "blocks_path",
    "code_of_error",
    "diagnostic",
    "error_of_code",
    "get_options",
    "parse_block_query",
    "put_options",
]

ENDPOINT_STORE_PATH: Final = (".well-known", "eris")
"""The store of the whole endpoint; python-eris without a path in its URL uses the root instead."""

BLOCKS_PATHS: Final = ((*ENDPOINT_STORE_PATH, "blocks"), ("blocks",))
"""Where this server answers."""

BLOCK_SIZES: Final = frozenset(int(size) for size in BlockSize)

_BASE32_LETTERS: Final = 52


class BadRequest(Exception):
    """The request makes no sense: answered with 4.00 and the message as diagnostic."""


def blocks_path(store_path: tuple[str, ...]) -> tuple[str, ...]:
    """The path of the `blocks` resource of a store."""
    return (*(store_path or ENDPOINT_STORE_PATH), "blocks")


def block_query(reference: Reference) -> bytes:
    """The Uri-Query that names a block: Base32, which every server understands."""
    return format_base32(reference).encode("ascii")


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


def get_options(store_path: tuple[str, ...], query: bytes, block_size: int) -> bytes:
    """The options of a GET for one block, as bytes.

    Size1 is always sent, since one server in use demands it.
    """
    options: list[Option] = _path_options(store_path)
    options.append((OptionNumber.URI_QUERY, query))
    options.append((OptionNumber.SIZE1, encode_uint(block_size)))
    return encode_options(options)


def put_options(store_path: tuple[str, ...]) -> bytes:
    """The options of a PUT of one block, as bytes."""
    return encode_options(_path_options(store_path))


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
    (
        StoreRefused,
        (Code.FORBIDDEN, Code.METHOD_NOT_ALLOWED, Code.REQUEST_ENTITY_TOO_LARGE, Code.BAD_OPTION),
    ),
)


def code_of_error(error: ErisError) -> int:
    """The response code that tells a peer of this error."""
    for kind, codes in _CODES:
        if isinstance(error, kind):
            return codes[0]
    return Code.INTERNAL_SERVER_ERROR


def diagnostic(error: ErisError) -> bytes:
    """What a peer is told beside the code. Only refusals and outages say why: it helps the user."""
    return str(error).encode("utf-8") if isinstance(error, StoreError) else b""


def error_of_code(code: int, reference: bytes, payload: bytes) -> ErisError:
    """The error that a response code stands for."""
    text = "".join(c for c in payload[:200].decode("utf-8", "replace") if c.isprintable())
    told = f": {text}" if text else ""
    for kind, codes in _CODES:
        if code not in codes:
            continue
        if kind is BlockNotFound:
            return BlockNotFound(reference)
        if kind is CorruptBlock:
            return StoreRefused(f"the store calls the request malformed{told}")
        if kind is StoreUnavailable:
            return StoreUnavailable(f"the store cannot do this now{told}")
        return StoreRefused(f"the store refuses this{told}")
    return StoreUnavailable(f"the store answered with code {code >> 5}.{code & 31:02d}{told}")
