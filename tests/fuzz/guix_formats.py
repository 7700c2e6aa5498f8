"""What is done with bytes that claim to be a format of Guix or Nix.

Each function takes any bytes. What its `except` names is documented and all that may be raised;
what is accepted has to be what a writer of ours would write, where there is one.
"""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from tempfile import NamedTemporaryFile

from guix_glue.errors import (
    CompressionError,
    InvalidEncoding,
    InvalidExpression,
    InvalidItemList,
    InvalidKey,
    InvalidNar,
    InvalidNarinfo,
    InvalidStorePath,
    ProtocolError,
    SignatureRejected,
)
from guix_glue.fetch.dialogue import NO_ITEMS, format_details
from guix_glue.formats import nixbase32
from guix_glue.formats.cache_info import format_cache_info, parse_cache_info
from guix_glue.formats.compression import Compression, decompressor, parse_choice
from guix_glue.formats.expression import Expression, format_advanced, parse
from guix_glue.formats.item_list import export_signature_line, format_item_list, parse_item_list
from guix_glue.formats.item_map import (
    PAGE_SIZE,
    Contents,
    InvalidMap,
    Search,
    hash_part_at,
    parse_page,
    urn_of,
)
from guix_glue.formats.nar import NarLimits, NarReader, NarWriter
from guix_glue.formats.narinfo import Narinfo, format_narinfo, format_unsigned, parse_narinfo
from guix_glue.formats.store_path import check_base_name, check_store_path, format_hash, parse_hash
from guix_glue.local.nix_conf import read_nix_conf_keys
from guix_glue.serving.durations import parse_duration
from guix_glue.trust.acl import Acl, authorize
from guix_glue.trust.keys import parse_private_key, parse_public_key
from guix_glue.trust.nix_keys import NixPublicKey, NixSecretKey
from guix_glue.trust.signature import verify_narinfo, verify_text
from tests.fuzz.cutting import as_text, cut
from tests.guix_glue.samples import SAMPLES

__all__ = [
    "SIGNED_TEXT",
    "access_list",
    "cache_info",
    "decompression",
    "expression",
    "guix_texts",
    "item_list",
    "item_map",
    "keys",
    "nar",
    "narinfo",
    "nix_conf",
    "signature",
]

STORE = "/gnu/store"
SIGNED_TEXT = (SAMPLES / "signatures" / "example-signed-text.txt").read_text()

_ACL = Acl.parse((SAMPLES / "keys" / "acl").read_bytes())
_PUBLIC = parse_public_key((SAMPLES / "keys" / "signing-key.pub").read_bytes())
_NIX_KEY = NixPublicKey.parse((SAMPLES / "nix-2.8" / "public-key").read_text())
_NAR_LIMITS = NarLimits(size=1 << 20, entries=1000)
_METHODS = tuple(Compression)
# Of what may be gigabytes: enough to meet every limit of a single step.
_MOST_PIECES = 64


def narinfo(data: bytes) -> None:
    """Read and judge a narinfo; what is read can be told to the daemon and written again."""
    try:
        read = parse_narinfo(data, store_dir=STORE)
    except InvalidNarinfo:
        return
    with suppress(SignatureRejected):
        verify_narinfo(read, _ACL)
    for value in read.nix_signatures:
        _NIX_KEY.verify(value, read.item)
    assert format_details([(read.item, 0)]) != NO_ITEMS
    _check_rewritten(read)


def item_list(data: bytes) -> None:
    """Read a list of items; what is read can be written, and says the same."""
    try:
        read = parse_item_list(data)
    except InvalidItemList:
        return
    narinfos = []
    for listed in read.items:
        narinfo = format_narinfo(format_unsigned(listed.item), None, ())
        if listed.export_signature is not None:
            narinfo += export_signature_line(listed.export_signature)
        narinfos.append(narinfo)
    again = parse_item_list(format_item_list(read.store_dir, read.wanted, narinfos))
    assert (again.store_dir, again.wanted) == (read.store_dir, read.wanted)
    assert [one.item for one in again.items] == [one.item for one in read.items]
    signatures = [one.export_signature for one in read.items]
    assert [one.export_signature for one in again.items] == signatures


def _check_rewritten(read: Narinfo) -> None:
    urn = read.signed_urn or read.hint_urn or None
    deltas = read.signed_deltas or read.hint_deltas
    written = format_narinfo(format_unsigned(read.item, urn, deltas), None, read.urls)
    again = parse_narinfo(written, store_dir=STORE)
    assert (again.item, again.urls, again.hint_urn) == (read.item, read.urls, urn)
    assert again.hint_deltas == deltas


def cache_info(data: bytes) -> None:
    """Read what a server says of itself; written, it is read as the same."""
    with suppress(ProtocolError):
        read = parse_cache_info(data)
        assert parse_cache_info(format_cache_info(read)) == read


def nix_conf(data: bytes) -> None:
    """Read the keys that Nix trusts; no file of the machine is included."""
    if b"include" in data:
        return
    with NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with suppress(InvalidKey):
            assert all(key.split() == [key] for key in read_nix_conf_keys(file.name))


def nar(data: bytes) -> None:
    """Read a nar in pieces: what is accepted is what our writer makes of the events."""
    body, pieces = cut(data)
    reader, writer = NarReader(_NAR_LIMITS), NarWriter()
    written = []
    try:
        for piece in pieces:
            written += [writer.write(event) for event in reader.feed(piece)]
        reader.finish()
    except InvalidNar as error:
        assert 0 <= error.offset <= max(len(body), _NAR_LIMITS.size)
        return
    assert b"".join(written) + writer.finish() == body


def expression(data: bytes) -> None:
    """Read an s-expression; written, it is read as the same."""
    with suppress(InvalidExpression):
        _check_same(parse(data))


def _check_same(read: Expression) -> None:
    assert parse(format_advanced(read)) == read


def keys(data: bytes) -> None:
    """Read keys of Guix and Nix; what is one is written and read as the same."""
    with suppress(InvalidKey):
        public = parse_public_key(data)
        assert parse_public_key(public.to_file()) == public
    with suppress(InvalidKey):
        private = parse_private_key(data)
        assert parse_private_key(private.to_file()) == private
    with suppress(InvalidKey):
        nix_public = NixPublicKey.parse(as_text(data))
        assert NixPublicKey.parse(str(nix_public)) == nix_public
    with suppress(InvalidKey):
        NixSecretKey.parse(as_text(data))


def access_list(data: bytes) -> None:
    """Read an access list, and add a key: then it authorizes that key."""
    try:
        Acl.parse(data).authorizes(_PUBLIC)
        extended = authorize(data, _PUBLIC)
    except InvalidKey:
        return
    assert Acl.parse(extended).authorizes(_PUBLIC)


def signature(data: bytes) -> None:
    """Believe, or not, a signature whose s-expression is the input."""
    with suppress(SignatureRejected):
        verify_text(f"1;host;{b64encode(data).decode()}", SIGNED_TEXT, _ACL)


def decompression(data: bytes) -> None:
    """Decompress by the method of the first byte, in pieces as large as the second byte says."""
    head = data[:2].ljust(2, b"\0")
    method, largest = _METHODS[head[0] % len(_METHODS)], 1 << head[1] % 21
    codec = decompressor(method)
    _, pieces = cut(data[2:])
    left = _MOST_PIECES
    with suppress(CompressionError):
        for piece in pieces:
            for output in codec.feed(piece, largest):
                assert 0 < len(output) <= largest
                left -= 1
                if not left:
                    return
        codec.finish()


def guix_texts(data: bytes) -> None:
    """Read small texts: options, paths, hashes."""
    text = as_text(data)
    with suppress(ValueError):
        choice = parse_choice(text)
        assert parse_choice(f"{choice.method.value}:{choice.level}") == choice
    with suppress(ValueError):
        assert parse_duration(text) >= 0
    with suppress(InvalidStorePath):
        check_base_name(check_store_path(text, STORE))
    with suppress(InvalidEncoding):
        assert nixbase32.encode(nixbase32.decode(text)) == text
    with suppress(InvalidEncoding):
        digest = parse_hash(text)
        assert parse_hash(format_hash(digest)) == digest


def item_map(data: bytes) -> None:
    """A map, as a file or a server has it; behind a byte that is odd, a page of one."""
    if data and data[0] % 2:
        with suppress(InvalidMap):
            page = parse_page(data[1 : 1 + PAGE_SIZE].ljust(PAGE_SIZE, b"\0"))
            Search(page.entries[0].key if page.entries else bytes(20), 3).look(page)
        return
    with suppress(InvalidMap):
        read = Contents.parse(data[1:])
        entries = list(read)
        for entry in entries[:16]:
            assert read.find(hash_part_at(entry.key)) == urn_of(entry.value)
        again = Contents.parse(b"".join(read.format()))
        assert (again.facts, list(again)) == (read.facts, entries)
