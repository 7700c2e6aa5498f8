"""What is done with bytes that claim to be capabilities, nodes, trees, packs or CoAP messages."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import chain

from cbor2 import dumps

from eris import BlockSize, MemoryStore, ReadCapability, Reference, encode
from eris.base32 import format_base32, parse_base32, parse_base32_reference
from eris.bundle import BadBlock, BundleItem, BundleLimits, BundleReader
from eris.crypto import reference_of
from eris.errors import (
    InvalidBundle,
    InvalidCapability,
    InvalidLink,
    InvalidNode,
    InvalidPadding,
)
from eris.link import format_link, parse_link
from eris.node import pad, unpack_node, unpad
from eris_fs.errors import InvalidManifest, InvalidPack, TreeTooLarge
from eris_fs.manifest import ManifestReader, format_manifest
from eris_fs.model import Limits, Pack, PackedFile, PackedTree
from eris_fs.packed.cost import MAX_PACK_SIZE, piece_lengths
from eris_fs.packed.decode import read_pack
from eris_fs.packed.frame import InvalidFrame, compress, decompress
from eris_fs.packed.index import HEADER, PackedIndexReader, format_index
from eris_fs.packed.plan import plan_loads
from kapla.block_list import LIST_HEAD, ListReader, format_references
from kapla.coap.blocks import BadRequest, parse_block_query, split_references, unpack_bitmap
from kapla.coap.connection import Connection, is_request
from kapla.coap.fast_lane import put_payload_start, requested_reference
from kapla.coap.frame import (
    Code,
    Frame,
    FrameReader,
    MalformedMessage,
    OptionNumber,
    format_message,
    parse_body,
)
from kapla.coap.list_pages import parse_after, parse_page
from kapla.coap.request import Rejected, read_request
from kapla.errors import InvalidBlockList, InvalidUrl
from kapla.urls import format_store_url, parse_store_url
from tests.fuzz.cutting import WHOLE, as_text, cut

__all__ = [
    "block_list",
    "bundle",
    "capability",
    "coap_connection",
    "coap_frames",
    "eris_fs_index",
    "link",
    "list_pages",
    "node",
    "pack",
    "packed_index",
    "packed_sections",
    "store_url",
]

_LIMITS = Limits(entries=1000, index_size=1 << 20, packs=1000)
_LOOP = asyncio.new_event_loop()


def capability(data: bytes) -> None:
    """Read a capability in each of its forms, and what else is written in Base32."""
    with suppress(InvalidCapability):
        assert ReadCapability.from_bytes(data).to_bytes() == data
    with suppress(InvalidCapability):
        assert ReadCapability.from_cbor(data).to_cbor() == data
    text = as_text(data)
    with suppress(InvalidCapability):
        # But for its prefix, in any case of letters.
        assert ReadCapability.from_urn(text).to_urn()[9:] == text[9:]
    with suppress(ValueError):
        assert format_base32(parse_base32(text)) == text
    with suppress(ValueError):
        assert parse_base32_reference(data) == parse_base32(data)


def node(data: bytes) -> None:
    """Read a decrypted block, of 1 KiB whatever the input, as a node and as a last leaf."""
    block = data[: BlockSize.SMALL].ljust(BlockSize.SMALL, b"\0")
    with suppress(InvalidNode):
        pairs = unpack_node(block)
        assert b"".join(chain.from_iterable(pairs)).ljust(BlockSize.SMALL, b"\0") == block
    with suppress(InvalidPadding):
        assert pad(unpad(block), BlockSize.SMALL) == block


def link(data: bytes) -> None:
    """Read as a link; what was read is written so that it reads the same."""
    with suppress(InvalidLink):
        found = parse_link(data)
        if found.size is not None:
            again = format_link(found)
            assert format_link(parse_link(again)) == again


def bundle(data: bytes) -> None:
    """Read a bundle in pieces: it gives the same as at once, and no block that is none."""
    body, pieces = cut(data)
    read = [_read_bundle(one) for one in ([body], pieces)]
    assert read[0] == read[1]
    for item in read[0]:
        if not isinstance(item, BadBlock | ReadCapability | str):
            assert reference_of(item[1]) == item[0]


def _read_bundle(pieces: list[bytes]) -> list[BundleItem | str]:
    reader = BundleReader(BundleLimits(capabilities=20, ignored_bytes=2000, depth=4))
    items: list[BundleItem | str] = [item for piece in pieces for item in reader.feed(piece)]
    try:
        reader.finish()
    except InvalidBundle as error:
        items.append(str(error))
    return items


def block_list(data: bytes) -> None:
    """Read a list of blocks in pieces; written again it is the same."""
    body, pieces = cut(data)
    reader = ListReader()
    with suppress(InvalidBlockList):
        found = [reference for piece in pieces for reference in reader.feed(piece)]
        reader.finish()
        assert LIST_HEAD + format_references(found) == body


def list_pages(data: bytes) -> None:
    """Read a page of the list of all blocks, and the place where one is to begin."""
    with suppress(ValueError):
        references, following = parse_page(data)
        assert not following or following + b"".join(references) == data
    with suppress(BadRequest):
        assert 0 <= parse_after([as_text(data)]) < 1 << 64


def eris_fs_index(data: bytes) -> None:
    """Read an index in pieces; written again it is of the same tree."""
    _, pieces = cut(data)
    reader = ManifestReader(_LIMITS)
    try:
        entries = [entry for piece in pieces for entry in reader.feed(piece)]
        reader.finish()
    except InvalidManifest:
        return
    tree = dict(entries)
    assert len(tree) == len(entries)
    again = ManifestReader(_LIMITS)
    assert dict(again.feed(b"".join(format_manifest(tree, _LIMITS)))) == tree


def packed_index(data: bytes) -> None:
    """Read the index of a packed tree in pieces; written again it is of the same tree."""
    _, pieces = cut(data)
    try:
        tree = _read_index(pieces)
    except InvalidManifest:
        return
    again = _read_index([format_index(tree, _LIMITS, 1)])
    assert (list(again.items()), again.packs) == (list(tree.items()), tree.packs)
    files = [entry for entry in tree.values() if isinstance(entry, PackedFile)]
    with suppress(TreeTooLarge):
        assert sum(1 for _ in plan_loads(tree.packs, files, 1 << 20)) <= len(files) * len(
            tree.packs
        )


def packed_sections(data: bytes) -> None:
    """The same with an index whose decompressed sections are the input."""
    if data:
        packed_index(WHOLE + HEADER + dumps(compress(data, 1)))


def _read_index(pieces: list[bytes]) -> PackedTree:
    reader = PackedIndexReader(_LIMITS)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


def pack(data: bytes) -> None:
    """Decompress a pack that is said to have the size of the first three bytes.

    By itself, and out of a store, where it is one capability for each piece; the latter only now
    and then if it is no pack.
    """
    size, stored = int.from_bytes(data[:3], "little"), data[3:]
    if not 1 <= len(stored) <= size:
        return
    content: bytes | None = None
    with suppress(InvalidFrame):
        content = stored if size == len(stored) else decompress(stored, size, MAX_PACK_SIZE)
        assert len(content) == size
    if content is not None:
        assert _LOOP.run_until_complete(_read_stored(stored, size)) == content
    elif stored[-1] % 16 == 0:
        with suppress(InvalidPack):
            _LOOP.run_until_complete(_read_stored(stored, size))
            raise AssertionError("a pack that is not valid was read")


async def _read_stored(stored: bytes, size: int) -> bytes:
    capabilities, at = b"", 0
    blocks: dict[Reference, bytes] = {}
    for length in piece_lengths(len(stored)):
        root, more = encode(stored[at : at + length])
        capabilities += root.to_bytes()
        blocks |= more
        at += length
    store = MemoryStore(blocks.values())
    return await read_pack(store, PackedTree({}, [Pack(0, size, len(stored), capabilities)]), 0)


def coap_frames(data: bytes) -> None:
    """Cut a stream into frames, in pieces as at once, and read each message in all ways."""
    body, pieces = cut(data)
    whole, reader = FrameReader(4096, 64), FrameReader(4096, 1 << 20)
    found = [_settled(frame) for frame in whole.feed(body)]
    in_pieces = [_settled(frame) for piece in pieces for frame in reader.feed(piece)]
    # How many frames are taken depends on how many come at once, and on nothing else.
    assert in_pieces[: len(found)] == found
    assert len(found) in (64, len(in_pieces))
    for frame in found:
        _check_message(frame)


def _settled(frame: Frame) -> Frame:
    code, token, buffer, start, stop = frame
    return code, token, bytes(buffer[start:stop]), 0, stop - start


def _check_message(frame: Frame) -> None:
    code, token, body, _, stop = frame
    try:
        options, payload = parse_body(body, 0, stop)
    except MalformedMessage:
        return
    (again,) = FrameReader(1 << 20).feed(format_message(code, token, options, payload))
    assert parse_body(*again[2:]) == (options, payload)
    if is_request(code):
        _check_request(frame)
    with suppress(BadRequest):
        assert b"".join(split_references(payload)) == payload
    with suppress(ValueError):
        unpack_bitmap(payload, len(token) * 100)


def _check_request(frame: Frame) -> None:
    """Both lanes have to see the same in a request."""
    code, _, body, start, stop = frame
    # As the listener does: the shapes hold for their own method.
    quick = requested_reference(body, start, stop) if code == Code.GET else None
    block_start = put_payload_start(body, start, stop) if code == Code.PUT else None
    try:
        request = read_request(frame)
    except Rejected:
        assert quick is None and block_start is None
        return
    queries = [value for number, value in request.options if number == OptionNumber.URI_QUERY]
    for query in queries:
        with suppress(BadRequest):
            parse_block_query(query)
    if quick is not None:
        assert [parse_block_query(query) for query in queries] == [quick]
    if block_start is not None:
        assert body[block_start:stop] == request.payload


def coap_connection(data: bytes) -> None:
    """Be the peer of a connection; what it says is well-formed itself."""
    _, pieces = cut(data)
    connection = Connection(4096)
    output = b""
    for piece in pieces:
        for frame in connection.receive(piece):
            assert connection.peer_known and 0 < frame[0] < 0xE0
        output += connection.take_output()
    said = FrameReader(1 << 20, 1 << 20)
    for _, _, body, start, stop in said.feed(output + connection.take_output()):
        parse_body(body, start, stop)
    assert said.failure is None
    assert connection.closing is None or connection.receive(b"\0\1") == []


def store_url(data: bytes) -> None:
    """Read the URL of a store."""
    with suppress(InvalidUrl):
        url = parse_store_url(as_text(data))
        str(url)
        again = parse_store_url(format_store_url(url))
        assert (again.endpoint, again.store_path) == (url.endpoint, url.store_path)
        assert again.flags.files == url.flags.files
