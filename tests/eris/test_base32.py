from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris.base32 import (
    format_base32,
    format_base32_reference,
    parse_base32,
    parse_base32_reference,
    short,
)
from tests.eris.helpers import make_content, patient

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@pytest.mark.parametrize(
    ("data", "text"),
    [  # RFC 4648, section 10, without the padding
        (b"", ""),
        (b"f", "MY"),
        (b"fo", "MZXQ"),
        (b"foo", "MZXW6"),
        (b"foob", "MZXW6YQ"),
        (b"fooba", "MZXW6YTB"),
        (b"foobar", "MZXW6YTBOI"),
    ],
)
def test_examples_of_the_standard(data: bytes, text: str) -> None:
    assert format_base32(data) == text
    assert parse_base32(text) == parse_base32(text.encode()) == data


@patient
@given(st.binary(max_size=100))
def test_parse_inverts_format(data: bytes) -> None:
    assert parse_base32(format_base32(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "my",  # lower case
        "mZXQ",
        "MY======",  # padding
        "MY=",
        "=",
        "M",  # impossible lengths
        "MZX",
        "MZXW6Y",
        "MZ",  # spare bits
        "MZXR",
        "M1",  # foreign characters
        "M0",
        "M8",
        "M9",
        "M Y",
        " MY",
        "MY\n",
        "MÝ",
        "\uff2d\uff39",  # full-width letters
        "M\0",
        "M-",
    ],
)
def test_any_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_base32(text)
    with pytest.raises(ValueError):
        parse_base32(text.encode())


@patient
@given(st.text(max_size=20) | st.text(ALPHABET + "=a1", max_size=20))
def test_what_is_accepted_is_canonical(text: str) -> None:
    try:
        data = parse_base32(text)
    except ValueError:
        return
    assert format_base32(data) == text


@patient
@given(st.binary(min_size=32, max_size=32))
def test_references_parse_as_other_base32_does(reference: bytes) -> None:
    text = format_base32(reference)
    assert parse_base32_reference(text.encode()) == reference == parse_base32(text)


@patient
@given(st.binary(min_size=32, max_size=32))
def test_references_are_written_as_other_base32_is(reference: bytes) -> None:
    assert format_base32_reference(reference) == format_base32(reference).encode()


@patient
@given(
    st.text(ALPHABET, min_size=50, max_size=54).map(str.encode)
    | st.binary(min_size=52, max_size=52)
    | st.tuples(st.integers(0, 51), st.binary(min_size=1, max_size=1)).map(
        lambda change: b"A" * change[0] + change[1] + b"A" * (51 - change[0])
    )
)
def test_references_are_refused_as_other_base32_is(letters: bytes) -> None:
    try:
        expected = parse_base32(letters)
    except ValueError:
        expected = b""
    if len(expected) == 32:
        assert parse_base32_reference(letters) == expected
    else:
        with pytest.raises(ValueError):
            parse_base32_reference(letters)


# What Python's own reading of numbers would let through: signs, spaces, underscores, prefixes.
@pytest.mark.parametrize("odd", [b"_", b"+", b"-", b" ", b"\n", b"\t", b"0", b"1", b"8", b"9"])
@pytest.mark.parametrize("place", [0, 1, 25, 50, 51])
def test_a_reference_is_letters_only(odd: bytes, place: int) -> None:
    letters = bytearray(format_base32(make_content(32)).encode())
    letters[place : place + 1] = odd
    with pytest.raises(ValueError):
        parse_base32_reference(bytes(letters))


@pytest.mark.parametrize("letter", ALPHABET)
def test_spare_bits_of_a_reference_are_zero(letter: str) -> None:
    text = "A" * 51 + letter
    if letter in "AQ":
        assert format_base32(parse_base32_reference(text.encode())) == text
    else:
        with pytest.raises(ValueError, match="spare"):
            parse_base32_reference(text.encode())


def test_short_names_are_the_first_letters() -> None:
    reference = make_content(32)
    assert short(reference) == base64.b32encode(reference).decode()[:8]
