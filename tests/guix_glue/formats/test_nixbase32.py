"""The base 32 of Guix and Nix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import InvalidEncoding
from guix_glue.formats import nixbase32

KNOWN = [
    (b"", ""),
    (b"\x00", "00"),
    (b"\x1f", "0z"),
    (b"\xff", "7z"),
]


@pytest.mark.parametrize(("data", "text"), KNOWN)
def test_known_values(data: bytes, text: str) -> None:
    assert nixbase32.encode(data) == text
    assert nixbase32.decode(text) == data


@given(st.binary(max_size=80))
def test_whatever_is_written_can_be_read(data: bytes) -> None:
    text = nixbase32.encode(data)
    assert len(text) == -(-len(data) * 8 // 5)
    assert nixbase32.decode(text) == data
    # By bytes from the end in big-endian base 32: another way to the same digits.
    bits = "".join(f"{byte:08b}" for byte in reversed(data)).zfill(5 * len(text))
    assert text == "".join(
        nixbase32.ALPHABET[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5)
    )


@given(st.text(max_size=60) | st.text(nixbase32.ALPHABET, max_size=60))
def test_what_is_read_has_one_spelling(text: str) -> None:
    try:
        data = nixbase32.decode(text)
    except InvalidEncoding:
        return
    assert nixbase32.encode(data) == text


@pytest.mark.parametrize("text", ["0", "000", "e0", "A0", "0_0", " 00", "zz", "8" * 52, "0" * 54])
def test_what_is_refused(text: str) -> None:
    with pytest.raises(InvalidEncoding):
        nixbase32.decode(text)
