"""What a server says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import ProtocolError
from guix_glue.formats.cache_info import (
    LARGEST_CACHE_INFO,
    CacheInfo,
    format_cache_info,
    parse_cache_info,
)
from tests.guix_glue.samples import SAMPLES


@pytest.mark.parametrize(
    ("text", "info"),
    [
        (b"StoreDir: /gnu/store\nWantMassQuery: 0\nPriority: 100\n", ("/gnu/store", False, 100)),
        (b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n", ("/nix/store", True, 40)),
        (b"", (None, False, 50)),
        (b"nonsense\nStoreDir:/x\r\nOther: y", ("/x", False, 50)),
        (b"StoreDir: /a\nStoreDir: /b\n", ("/b", False, 50)),
    ],
)
def test_three_lines_count(text: bytes, info: tuple[str | None, bool, int]) -> None:
    assert parse_cache_info(text) == CacheInfo(*info)


def test_real_ones() -> None:
    nix = parse_cache_info((SAMPLES / "nix-2.8" / "nix-cache-info").read_bytes())
    assert nix == CacheInfo("/nix/store")
    guix = parse_cache_info((SAMPLES / "nix-cache-info").read_bytes())
    assert guix == CacheInfo("/gnu/store", False, 100)


@pytest.mark.parametrize(
    "text",
    [
        b"StoreDir: nix/store",
        b"StoreDir: /nix/store\tx",
        b"StoreDir: /",
        b"StoreDir: /nix/" + b"x" * 300,
        b"Priority: ten",
        b"Priority: -1",
        b"x" * (LARGEST_CACHE_INFO + 1),
    ],
)
def test_what_is_none(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_cache_info(text)


@given(st.integers(0, 999_999_999), st.booleans())
def test_reading_undoes_writing(priority: int, mass_query: bool) -> None:
    info = CacheInfo("/gnu/store", mass_query, priority)
    assert parse_cache_info(format_cache_info(info)) == info


@given(st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: bytes) -> None:
    try:
        info = parse_cache_info(text)
    except ProtocolError:
        return
    assert parse_cache_info(format_cache_info(info)) == info
