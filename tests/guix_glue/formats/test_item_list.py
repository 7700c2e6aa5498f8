"""Lists of items: written and read, and all that must be refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import InvalidItemList
from guix_glue.formats import nixbase32
from guix_glue.formats.item_list import (
    LIST_MAGIC,
    ItemList,
    export_signature_line,
    format_item_list,
    parse_item_list,
)
from guix_glue.formats.narinfo import format_narinfo, format_unsigned
from guix_glue.model import StoreItem


def item(name: str, *references: str) -> StoreItem:
    digest = hashlib.sha256(name.encode()).digest()
    base = f"{nixbase32.encode(digest[:20])}-{name}"
    return StoreItem(f"/gnu/store/{base}", digest, 1000, references)


def narinfo(one: StoreItem, urn: str | None = None) -> bytes:
    return format_narinfo(format_unsigned(one, urn), None, ())


WORDS = item("words")
HELLO = item("hello", WORDS.base_name)
LOOP = item("loop")
LOOP = StoreItem(LOOP.path, LOOP.nar_hash, 1, (LOOP.base_name, HELLO.base_name, "0" * 32 + "-x"))
GOOD = format_item_list(
    "/gnu/store",
    [LOOP.base_name],
    [
        narinfo(WORDS, "urn:eris:A"),
        narinfo(HELLO) + export_signature_line(b"(signed)"),
        narinfo(LOOP),
    ],
)


def test_what_is_written_is_read() -> None:
    read = parse_item_list(GOOD)
    assert (read.store_dir, read.wanted) == ("/gnu/store", (LOOP.base_name,))
    assert [one.item for one in read.items] == [WORDS, HELLO, LOOP]
    assert [one.export_signature for one in read.items] == [None, b"(signed)", None]
    assert [one.narinfo.hint_urn for one in read.items] == ["urn:eris:A", None, None]


def test_an_empty_list() -> None:
    assert parse_item_list(format_item_list("/gnu/store", [], [])) == ItemList("/gnu/store", (), ())


def test_what_is_not_known_of_the_head_is_passed_over() -> None:
    assert parse_item_list(GOOD.replace(b"\nCount", b"\nColour: blue\nCount")) == parse_item_list(
        GOOD
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "no list"),
        (b"ERIS-FS", "no list"),
        (GOOD.replace(b"Items: 1", b"Items: 2"), "version"),
        (GOOD.replace(b"Items: 1", b"Items: 1 "), "version"),
        (LIST_MAGIC + b"1\nStoreDir: /gnu/store\nCount: 0\n", "no end"),
        (GOOD.replace(b"Count: 3", b"Count: 4"), "3 items"),
        (GOOD.replace(b"Count: 3\n", b""), "no Count"),
        (GOOD.replace(b"Count: 3\n", b"Count: 3\nCount: 3\n"), "more than one"),
        (GOOD.replace(b"Count: 3", b"Count 3"), "line of its head"),
        (GOOD.replace(b"StoreDir: /gnu/store\n", b"StoreDir: store\n"), "absolute"),
        (GOOD.replace(b"StoreDir: /gnu/store\n", b"StoreDir: /nix/store\n"), "item 1"),
        (GOOD.replace(b"Wanted: ", b"Wanted: x"), "asked for"),
        (GOOD[:-1], "cut off"),
        (GOOD + narinfo(HELLO) + b"\n", "which is not what its head says"),
        (
            format_item_list("/gnu/store", [], [narinfo(HELLO), narinfo(HELLO)]),
            "twice",
        ),
        (
            format_item_list("/gnu/store", [], [narinfo(HELLO), narinfo(WORDS)]),
            "comes before",
        ),
        (GOOD.replace(b"NarSize: 1000", b"NarSize: -1", 1), "item 1"),
        (GOOD.replace(b"Export-Signature: ", b"Export-Signature: !"), "item 2"),
        (GOOD.replace(b"Export-Signature: ", b"Export-Signature: " + b"A" * 20_000), "item 2"),
    ],
)
def test_what_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(InvalidItemList, match=reason):
        parse_item_list(text)


@given(st.binary(max_size=300), st.integers(0, len(GOOD)), st.integers(0, 300))
def test_whatever_comes_is_read_or_refused(data: bytes, start: int, size: int) -> None:
    text = GOOD[:start] + data + GOOD[start + size :]
    for one in (data, text):
        try:
            parse_item_list(one)
        except InvalidItemList:
            continue
