"""Names and batches as they are on the wire, both ways, and what is no name or no batch."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris.crypto import reference_of
from eris.errors import CorruptBlock
from eris.model import Reference
from kapla.http.wire.batch import (
    BatchReader,
    InvalidBatch,
    format_entries,
    format_entry,
    format_request,
    longest_answer,
    parse_request,
)
from kapla.http.wire.cid import format_cid, parse_cid
from kapla.http.wire.n2r import format_n2r, parse_n2r_query

REFERENCES = st.binary(min_size=32, max_size=32).map(Reference)
HELLO = Reference(hashlib.blake2b(b"hello", digest_size=32).digest())
# As two programs of IPFS name the raw bytes "hello" under Blake2b-256.
HELLO_BASE16 = "f0155a0e40220" + HELLO.hex()


@given(REFERENCES)
def test_names_of_a_block_are_read_as_they_are_written(reference: Reference) -> None:
    query = format_n2r(reference).removeprefix("/uri-res/N2R?")
    assert parse_n2r_query(query) == reference
    assert parse_n2r_query(query.replace(":", "%3A")) == reference
    assert parse_n2r_query("URN:Blake2B:" + query[-52:]) == reference
    assert parse_cid(format_cid(reference)) == reference


def test_a_path_is_the_one_of_the_document() -> None:
    letters = base64.b32encode(HELLO).decode().rstrip("=")
    assert format_n2r(HELLO) == f"/uri-res/N2R?urn:blake2b:{letters}"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "begins with urn:blake2b:"),
        ("urn:eris:" + "A" * 52, "begins with urn:blake2b:"),
        ("urn:blake2b:" + "A" * 51, "52 letters"),
        ("urn:blake2b:" + "A" * 53, "52 letters"),
        ("urn:blake2b:" + "A" * 500, "52 letters"),
        ("urn:blake2b:" + "a" * 52, "upper-case"),
        ("urn:blake2b:" + "A" * 51 + "B", "spare bits"),
        ("urn:blake2b:" + "A" * 51 + "1", "upper-case"),
        ("urn:blake2b:" + "A" * 51 + "é", "alphabet"),
        ("urn%3blake2b:" + "A" * 52, "begins with"),
        ("urn%zzblake2b:" + "A" * 52, "percent sign"),
        ("urn%ff", "UTF-8"),
    ],
)
def test_what_names_no_block_is_refused(query: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_n2r_query(query)


def test_a_cid_is_what_other_programs_write() -> None:
    cid = format_cid(HELLO)
    assert cid == "bafk2bzacea" + cid[11:]
    assert len(cid) == 62
    assert parse_cid(cid.upper()) == HELLO
    assert parse_cid(HELLO_BASE16) == HELLO
    number, letters = int(HELLO_BASE16[1:], 16), ""
    while number:
        number, digit = divmod(number, 58)
        letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + letters
    assert parse_cid("z" + letters) == HELLO


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a CID"),
        ("Qm" + "a" * 44, "version 0"),
        ("x" * 60, "not a CID"),
        ("b" + "A" * 61, "case"),
        ("b" + "a" * 60 + "1", "Base32"),
        ("z0", "Base58"),
        ("b" * 200, "longer"),
        ("f02" + HELLO_BASE16[3:], "version 2"),
        ("f0170" + HELLO_BASE16[5:], "kind 0x70"),
        ("f0155" + "1220" + HELLO.hex(), "hash of the kind 0x12"),
        (HELLO_BASE16[:-2], "31 bytes"),
        (HELLO_BASE16 + "00", "33 bytes"),
        ("f0155", "cut off"),
        ("f01d500a0e40220" + HELLO.hex(), "shortest"),
    ],
)
def test_a_cid_of_something_else_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_cid(text)


@given(st.text(max_size=140))
def test_any_text_is_a_name_or_a_value_error(text: str) -> None:
    for read in (parse_cid, parse_n2r_query):
        try:
            assert len(read(text)) == 32
        except ValueError as error:
            assert str(error)


# --- batches ----------------------------------------------------------------------------------

BLOCKS: list[bytes | None] = [os.urandom(1024), None, os.urandom(32768), os.urandom(1024), None]
ASKED = [Reference(os.urandom(32)) if block is None else reference_of(block) for block in BLOCKS]
ANSWER = b"".join(map(format_entry, BLOCKS))


def read(reader: BatchReader, pieces: Iterator[bytes]) -> list[bytes | None]:
    blocks = []
    for piece in pieces:
        reader.feed(piece)
        blocks += [block for _, block in reader.entries()]
    return blocks


def cut(answer: bytes, size: int) -> Iterator[bytes]:
    return (answer[start : start + size] for start in range(0, len(answer), size))


def test_an_answer_is_written_in_pieces_and_nothing_is_kept() -> None:
    blocks = [*BLOCKS, *([bytes(32768)] * 8), None, *([bytes(1024)] * 200)]
    left = list(blocks)
    pieces = []
    for piece in format_entries(left):
        assert len(piece) <= 64 * 1024 + 32769
        pieces.append(piece)
        assert sum(map(len, pieces)) == len(
            b"".join(map(format_entry, blocks[: len(blocks) - len(left)]))
        )
    assert b"".join(pieces) == b"".join(map(format_entry, blocks))
    assert not left


@pytest.mark.parametrize("size", [1, 7, 1025, 40_000, 10**6])
def test_an_answer_is_read_in_whatever_pieces_it_comes(size: int) -> None:
    reader = BatchReader(ASKED)
    assert read(reader, cut(ANSWER, size)) == BLOCKS
    reader.finish()
    assert len(ANSWER) <= longest_answer(len(ASKED))


def test_a_request_is_read_as_it_is_written() -> None:
    assert parse_request(format_request(ASKED)) == ASKED
    assert parse_request(format_request(ASKED[:1] * 256)) == ASKED[:1] * 256


@pytest.mark.parametrize("size", [0, 31, 33, 257 * 32, 256 * 32 + 1, 10**6])
def test_a_request_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidBatch):
        parse_request(bytes(size))


def test_more_than_a_batch_is_not_written() -> None:
    for number in (0, 257):
        with pytest.raises(InvalidBatch, match="1 to 256"):
            format_request([HELLO] * number)


@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_what_came_before_a_wrong_block_is_given(size: int) -> None:
    answer = format_entry(BLOCKS[0]) + b"\x00" + format_entry(os.urandom(32768))
    reader, blocks = BatchReader(ASKED), []
    with pytest.raises(CorruptBlock) as caught:
        for piece in cut(answer, size):
            reader.feed(piece)
            for _, block in reader.entries():
                blocks.append(block)
    assert blocks == BLOCKS[:2]
    assert caught.value.reference == ASKED[2]
    assert reader.left == tuple(ASKED[2:])


def test_an_answer_that_makes_no_sense_is_refused() -> None:
    for answer in (b"\x02", ANSWER + b"\x00"):
        with pytest.raises(InvalidBatch):
            read(BatchReader(ASKED), cut(answer, 500))
    reader = BatchReader(ASKED)
    read(reader, cut(ANSWER[:-1], 500))
    with pytest.raises(InvalidBatch, match="last 1 blocks"):
        reader.finish()
