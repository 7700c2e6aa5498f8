"""S-expressions: every spelling is read, libgcrypt's is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import InvalidExpression
from guix_glue.formats.expression import MAX_ATOMS, MAX_DEPTH, find, format_advanced, parse
from tests.guix_glue.samples import SAMPLES

FILES = [
    *(SAMPLES / "keys" / name for name in ("signing-key.pub", "signing-key.sec", "acl")),
    SAMPLES / "keys" / "acl-empty",
    *sorted((SAMPLES / "signatures").glob("*.sexp")),
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_guix_wrote_is_written_again_to_the_byte(file: object) -> None:
    text = open(str(file), "rb").read()  # noqa: SIM115
    assert format_advanced(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"a", b"a"),
        (b"()", ()),
        (b"( a (b c) )\n", (b"a", (b"b", b"c"))),
        (b"(1:a(2:bc3:\x00()))", (b"a", (b"bc", b"\x00()"))),
        (b"(q #00 fF#)", (b"q", b"\x00\xff")),
        (b"(q |AP8=|)", (b"q", b"\x00\xff")),
        (b'(q "a b\\"\\\\\\n\\x41\\102\\\nc")', (b"q", b'a b"\\\nABc')),
        (b"(curve Ed25519)\0", (b"curve", b"Ed25519")),
    ],
)
def test_all_spellings(text: bytes, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"(",
        b")",
        b"(a",
        b"(a))",
        b"a b",
        b"(5:abc)",
        b"(#0#)",
        b"(#0g#)",
        b"(|A|)",
        b'("a)',
        b"(\xff)",
        b"(9999999:)",
        b"(" * (MAX_DEPTH + 1) + b")" * (MAX_DEPTH + 1),
        b"(" + b"a " * (MAX_ATOMS + 1) + b")",
    ],
    ids=range(15),
)
def test_what_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidExpression):
        parse(text)


EXPRESSIONS = st.recursive(
    st.binary(max_size=20), lambda parts: st.lists(parts, max_size=4).map(tuple), max_leaves=20
)


@given(EXPRESSIONS)
def test_whatever_is_written_can_be_read(expression: object) -> None:
    assert parse(format_advanced(expression)) == expression  # type: ignore[arg-type]


@given(st.binary(max_size=60) | st.text('()#|"\\:0a9 \n', max_size=60).map(str.encode))
def test_garbage_is_refused_by_one_error(text: bytes) -> None:
    try:
        expression = parse(text)
    except InvalidExpression:
        return
    assert parse(format_advanced(expression)) == expression


def test_limits_may_be_given() -> None:
    text = b"(a (b c))"
    assert parse(text, max_depth=2, max_atoms=3) == (b"a", (b"b", b"c"))
    for limits in ({"max_depth": 1}, {"max_atoms": 2}):
        with pytest.raises(InvalidExpression):
            parse(text, **limits)


def test_lists_are_found_by_their_heads() -> None:
    expression = parse(b"(a b (c 1:x) (b) (c y))")
    assert find(expression, b"c") == (b"c", b"x")
    assert find(expression, b"b") == (b"b",)
    assert find(expression, b"d") is None
    assert find(b"c", b"c") is None
