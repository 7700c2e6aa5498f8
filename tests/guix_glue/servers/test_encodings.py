"""Encodings that nobody asked for."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import CompressionError, FetchFailed
from guix_glue.servers.encodings import body_decoder, decode_body, encoding_name

TEXT = b"StorePath: /gnu/store/x\n" * 5000


def raw_deflate(data: bytes) -> bytes:
    codec = zlib.compressobj(wbits=-15)
    return codec.compress(data) + codec.flush()


ENCODED = {
    "": TEXT,
    "identity": TEXT,
    "none": TEXT,
    "UTF-8": TEXT,
    "aws-chunked": TEXT,
    "gzip, aws-chunked": gzip.compress(TEXT),
    "gzip": gzip.compress(TEXT),
    "GZip ": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
}


@pytest.mark.parametrize("header", ENCODED)
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_what_is_known_is_undone(header: str, step: int) -> None:
    data = ENCODED[header]
    decoder = body_decoder(encoding_name(header))
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    decoded = b"".join(one for piece in pieces for one in decoder.feed(piece, 100))
    decoder.finish()
    assert decoded == TEXT


def test_deflate_without_a_header() -> None:
    assert decode_body("deflate", raw_deflate(TEXT), len(TEXT)) == TEXT


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, gzip", "compress", "\x1b[2J", "x" * 999])
def test_what_is_not_known_is_named(header: str) -> None:
    with pytest.raises(FetchFailed) as raised:
        body_decoder(encoding_name(header))
    message = str(raised.value)
    assert message.isprintable() and len(message) < 200
    if header.isprintable():
        assert header[:40] in message


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_bomb_is_refused(name: str) -> None:
    bomb = bytes(50_000_000)
    encoded = gzip.compress(bomb) if name == "gzip" else zlib.compress(bomb)
    with pytest.raises(FetchFailed, match="longer than 1000 bytes"):
        decode_body(name, encoded, 1000)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_what_is_cut_off_or_damaged_is_refused(name: str) -> None:
    for data in (ENCODED[name][:-1], ENCODED[name][:1], b"", b"\xff" + ENCODED[name][1:]):
        with pytest.raises(FetchFailed, match="cannot be decoded"):
            decode_body(name, data, len(TEXT))


def test_an_encoding_of_nothing_has_an_end() -> None:
    decoder = body_decoder("gzip")
    nothing = gzip.compress(b"") * 500
    with pytest.raises(CompressionError):
        for _ in range(1000):
            assert list(decoder.feed(nothing)) == []


@given(st.sampled_from(["gzip", "deflate"]), st.binary())
def test_any_body_is_decoded_or_refused(name: str, body: bytes) -> None:
    try:
        assert len(decode_body(name, body, 100)) <= 100
    except FetchFailed:
        return
