"""Link files: written and read, and what is refused."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris import ReadCapability, encode
from eris.errors import InvalidLink
from eris.link import LINK_MAGIC, MAX_LINK_SIZE, Link, format_link, parse_link

CAPABILITY, _ = encode(b"content")
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 64), (1 << 64) - 1),
        st.floats(allow_nan=False),
        st.text(max_size=20),
        st.binary(max_size=20),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_the_bytes() -> None:
    data = format_link(Link(CAPABILITY, 7, "text/plain", {"name": "x"}))
    assert data == (
        LINK_MAGIC + CAPABILITY.to_bytes() + b"\x07\x6atext/plain" + b"\xa1\x64name\x61x"
    )


@given(
    size=st.integers(0, (1 << 64) - 1),
    kind=st.text(max_size=30),
    attributes=st.dictionaries(st.text(max_size=9), VALUES, max_size=5),
)
def test_what_is_written_is_read(size: int, kind: str, attributes: dict[str, object]) -> None:
    link = Link(CAPABILITY, size, kind, attributes)
    try:
        data = format_link(link)
    except InvalidLink as error:
        assert "deep" in error.reason
        return
    assert parse_link(data) == link
    # As an independent reader has it, without the outer tag.
    read = cbor2.loads(data[3:])
    assert read[0].value == CAPABILITY.to_bytes()
    assert read[1:] == [size, kind, attributes]


def test_what_others_write() -> None:
    """Heads that are longer than need be, small floats, and tags within."""
    tail = b"\x18\x07\x78\x03a/b" + b"\xa2\x61f\xf9\x3e\x00\x61t\xc1\x1a\x00\x00\x00\x05"
    link = parse_link(LINK_MAGIC + CAPABILITY.to_bytes() + tail)
    assert (link.size, link.media_type) == (7, "a/b")
    assert link.attributes == {"f": 1.5, "t": 5}


@pytest.mark.parametrize("end", ["", "\n", " \r\n"])
def test_a_bare_urn(end: str) -> None:
    link = parse_link((CAPABILITY.to_urn() + end).encode())
    assert link == Link(CAPABILITY)


def test_it_ends_nowhere_else() -> None:
    data = format_link(Link(CAPABILITY, 7, "text/plain", {"name": ["x", {"y": b"z"}]}))
    for end in range(len(data)):
        with pytest.raises(InvalidLink):
            parse_link(data[:end])
    with pytest.raises(InvalidLink, match="something follows"):
        parse_link(data + b"\0")


def of(tail: bytes) -> bytes:
    return LINK_MAGIC + CAPABILITY.to_bytes() + tail


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins neither"),
        (b"urn:eris:ABC", "letters after"),
        (b"urn:eris:\xff", "letters that no URN has"),
        (bytes(MAX_LINK_SIZE + 1), "more than 64 KiB"),
        (LINK_MAGIC + bytes(66) + b"\x07\x60\xa0", "block-size"),
        (of(b"\x20\x60\xa0"), "size is no number"),
        (of(b"\xf5\x60\xa0"), "size is no number"),
        (of(b"\x07\x07\xa0"), "media type"),
        (of(b"\x07\x79\x01\x00" + b"x" * 256 + b"\xa0"), "media type"),
        (of(b"\x07\x60\x80"), "no map"),
        (of(b"\x07\x60\xbf\xff"), "without a stated length"),
        (of(b"\x07\x60\xa1\x01\x01"), "no text"),
        (of(b"\x07\x60\xa2\x61a\x01\x61a\x01"), "twice"),
        (of(b"\x07\x60\xa1\x61a" + b"\x81" * 9 + b"\x01"), "8 deep"),
        (of(b"\x07\x60\xa1\x61a" + b"\xc1" * 9 + b"\x01"), "8 deep"),
        (of(b"\x07\x60\xa1\x61a\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), "more than 256"),
        (of(b"\x07\x60\xa1\x61a\x5b\xff\xff\xff\xff\xff\xff\xff\xff"), "cut off"),
        (of(b"\x07\x60\xa1\x61a\x61\xff"), "no UTF-8"),
        (of(b"\x07\x60\xa1\x61a\xf0"), "nobody knows"),
    ],
)
def test_what_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidLink, match=reason):
        parse_link(data)


@pytest.mark.parametrize(
    "link",
    [
        Link(CAPABILITY),
        Link(CAPABILITY, -1),
        Link(CAPABILITY, 1 << 64),
        Link(CAPABILITY, 1, "x" * 256),
        Link(CAPABILITY, 1, "", {"x": object()}),
        Link(CAPABILITY, 1, "", {"x": "y" * MAX_LINK_SIZE}),
    ],
    ids=["no size", "negative", "large", "type", "value", "long"],
)
def test_what_is_not_written(link: Link) -> None:
    with pytest.raises(ValueError):
        format_link(link)


def test_neither_a_link_nor_an_error_shows_the_key() -> None:
    link = Link(CAPABILITY, 7, "text/plain", {"name": "private"})
    assert CAPABILITY.to_urn()[60:] not in repr(link)
    assert "private" not in repr(link)
    assert isinstance(link.capability, ReadCapability)
