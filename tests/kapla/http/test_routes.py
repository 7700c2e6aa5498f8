"""What targets ask for, and what is said of those that ask for nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eris.base32 import format_base32
from eris.model import Reference
from kapla.http.door.headers import names_tag, of_block, tag_of
from kapla.http.door.routes import (
    Batch,
    BlockOf,
    Home,
    Malformed,
    NoPath,
    Probe,
    methods_of,
    parse_target,
)
from kapla.http.wire.cid import format_cid
from kapla.http.wire.n2r import format_n2r

REFERENCE = Reference(bytes(range(32)))
N2R = format_n2r(REFERENCE)
CID = format_cid(REFERENCE)
RAW = "application/vnd.ipld.raw"


@pytest.mark.parametrize(
    "target",
    [
        N2R,
        N2R.replace("urn:blake2b:", "URN%3ABlake2b%3A"),
        "http://example.org:8080" + N2R,
        "HTTPS://[::1]" + N2R,
    ],
)
def test_a_block_by_n2r(target: str) -> None:
    assert parse_target(target) == BlockOf(REFERENCE)


def test_a_block_by_its_cid() -> None:
    assert parse_target(f"/ipfs/{CID}?format=raw") == BlockOf(REFERENCE, CID)
    assert parse_target(f"/ipfs/{CID}?download=true&format=raw", "text/html") == BlockOf(
        REFERENCE, CID
    )
    for accept in (RAW, f"text/html, {RAW.upper()};q=0.5"):
        assert parse_target(f"/ipfs/{CID}", accept) == BlockOf(REFERENCE, CID, varies=True)


def test_what_there_is_besides() -> None:
    assert parse_target("/kapla/blocks") == Batch()
    assert parse_target("/") == Home()
    assert parse_target("http://example.org") == Home()
    assert parse_target("/?x") == Home()
    assert parse_target("/ipfs/bafkqaaa?format=raw") == Probe()


@pytest.mark.parametrize(
    ("target", "accept", "status", "text"),
    [
        ("/uri-res/N2R", None, 400, "begins with urn:blake2b:"),
        (N2R[:-1], None, 400, "52 letters"),
        (N2R[:-1] + "a", None, 400, "upper-case"),
        (N2R[:-1] + "B", None, 400, "spare bits"),
        ("/uri-res/N2R?urn:sha1:" + "A" * 32, None, 400, "begins with urn:blake2b:"),
        ("/uri-res/N2R?" + "x" * 2000, None, 414, "longer than 1024"),
        (f"/ipfs/{CID}", None, 400, "?format=raw"),
        (f"/ipfs/{CID}", "*/*", 400, "?format=raw"),
        (f"/ipfs/{CID}", "text/html", 406, RAW),
        (f"/ipfs/{CID}?format=car", RAW, 400, "the only format is raw"),
        (f"/ipfs/{CID}?format=raw&format=car", None, 400, "the only format is raw"),
        (f"/ipfs/{CID}/path?format=raw", None, 400, "no paths"),
        (f"/ipfs/{CID}/?format=raw", None, 400, "slash"),
        ("/ipfs/?format=raw", None, 400, "no block of this CID"),
        # dag-pb with SHA2-256; and raw with it.
        (
            "/ipfs/bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi?format=raw",
            None,
            400,
            "content of the kind 0x70",
        ),
        (
            "/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy?format=raw",
            None,
            400,
            "a hash of the kind 0x12",
        ),
        (
            "/ipfs/QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR?format=raw",
            None,
            400,
            "version 0",
        ),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(
    target: str, accept: str | None, status: int, text: str
) -> None:
    with pytest.raises(Malformed, match=r"^[^\n]+$") as caught:
        parse_target(target, accept)
    assert caught.value.status == status
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "target", ["", "*", "/x", "//", "/uri-res/n2r", "/uri-res/N2R/", "/kapla/blocks/", "/ipns/x"]
)
def test_there_is_nothing_else(target: str) -> None:
    with pytest.raises(NoPath):
        parse_target(target)
    with pytest.raises(NoPath):
        methods_of(target)


targets = st.one_of(
    st.text(max_size=1200),
    st.text(max_size=100).map(lambda text: "/uri-res/N2R?" + text),
    st.text(max_size=100).map(lambda text: "/ipfs/" + text),
    st.binary(max_size=80).map(
        lambda data: "/ipfs/b" + format_base32(data).lower() + "?format=raw"
    ),
)


@given(targets, st.none() | st.text(max_size=100))
@example("/uri-res/N2R?%ff%00", None)
@example("/ipfs/\udcff?format=raw", "\udcff")
def test_any_target_has_an_answer(target: str, accept: str | None) -> None:
    try:
        route = parse_target(target, accept)
    except Malformed as error:
        # One line, and nothing of what was sent beyond what is known.
        assert str(error).isprintable()
        assert error.status in (400, 406, 414)
    except NoPath:
        pass
    else:
        assert route.methods == methods_of(target)


@given(st.binary(min_size=32, max_size=32))
def test_every_block_has_a_path_and_a_tag(data: bytes) -> None:
    reference = Reference(data)
    by_name = parse_target(format_n2r(reference))
    by_cid = parse_target(f"/ipfs/{format_cid(reference)}?format=raw")
    assert isinstance(by_name, BlockOf) and isinstance(by_cid, BlockOf)
    assert by_name.reference == by_cid.reference == reference
    assert tag_of(by_name) == tag_of(by_cid) == f'"{format_base32(data)}"'
    assert names_tag(tag_of(by_name), tag_of(by_cid))


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (None, False),
        ("", False),
        ("*", False),
        ('"x"', False),
        ("TAG", True),
        ("W/TAG", True),
        ('"a", TAG,"b"', True),
        ("x" * 4100 + "TAG", False),
    ],
)
def test_whether_the_client_has_it(header: str | None, named: bool) -> None:
    tag = tag_of(BlockOf(REFERENCE))
    header = None if header is None else header.replace("TAG", tag)
    assert names_tag(header, tag) is named


def test_what_tells_the_form_is_told_to_caches() -> None:
    assert "Vary" not in of_block(BlockOf(REFERENCE, CID))
    assert of_block(BlockOf(REFERENCE, CID, varies=True))["Vary"] == "Accept"
