from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.identity.key import PeerKey

# RFC 8032, section 7.1, test 1: the public key, and the same in Base64url.
KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
TEXT = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def test_a_key_as_text() -> None:
    assert str(PeerKey(KEY)) == TEXT
    assert PeerKey.parse(TEXT) == PeerKey(KEY)
    assert TEXT in repr(PeerKey(KEY))


@given(st.binary(min_size=32, max_size=32))
def test_every_key_has_one_text(data: bytes) -> None:
    key = PeerKey(data)
    text = str(key)
    assert len(text) == 51
    assert PeerKey.parse(text) == key
    assert len({key, PeerKey.parse(text)}) == 1


@given(st.integers(0, 50), st.characters())
def test_another_text_is_another_key_or_none(place: int, letter: str) -> None:
    other = TEXT[:place] + letter + TEXT[place + 1 :]
    try:
        key = PeerKey.parse(other)
    except ValueError:
        return
    assert (key == PeerKey(KEY)) == (other == TEXT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519:",
        TEXT[:-1],
        TEXT + "=",
        TEXT + "A",
        TEXT + "\n",
        " " + TEXT,
        TEXT.replace("ed25519", "ED25519"),
        TEXT.replace("ed25519", "x25519"),
        TEXT.replace("_", "/"),
        # The same 32 bytes for a decoder that does not look at what is left over.
        TEXT[:-1] + "p",
    ],
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="key") as raised:
        PeerKey.parse(text)
    assert len(text) < 20 or text.strip() not in str(raised.value)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PeerKey(bytes(length))


def test_keys_have_an_order() -> None:
    low, high = PeerKey(bytes(32)), PeerKey(b"\xff" * 32)
    assert sorted([high, low]) == [low, high]
