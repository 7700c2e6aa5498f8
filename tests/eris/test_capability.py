from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris import (
    BlockSize,
    InvalidCapability,
    Key,
    ReadCapability,
    Reference,
    ReferenceKeyPair,
    format_block_urn,
)
from eris.base32 import format_base32, parse_base32_reference
from tests.eris.helpers import make_content, patient

capabilities = st.builds(
    ReadCapability,
    st.sampled_from(BlockSize),
    st.integers(0, 255),
    st.builds(
        ReferenceKeyPair,
        st.binary(min_size=32, max_size=32).map(Reference),
        st.binary(min_size=32, max_size=32).map(Key),
    ),
)
CAPABILITY = ReadCapability.from_bytes(b"\x0a\x02" + make_content(64))
URN = CAPABILITY.to_urn()
LETTERS = URN.removeprefix("urn:eris:")


@patient
@given(capabilities)
def test_parse_inverts_format(capability: ReadCapability) -> None:
    assert ReadCapability.from_bytes(capability.to_bytes()) == capability
    assert ReadCapability.from_urn(capability.to_urn()) == capability
    assert ReadCapability.from_cbor(capability.to_cbor()) == capability


@patient
@given(capabilities)
def test_forms(capability: ReadCapability) -> None:
    data = capability.to_bytes()
    assert len(data) == 66
    assert data[:2] == bytes([capability.block_size.code, capability.level])
    assert data[2:] == capability.root.reference + bytes(capability.root.key)
    assert capability.to_cbor() == bytes.fromhex("d901145842") + data
    urn = capability.to_urn()
    assert urn == "urn:eris:" + format_base32(data)
    assert len(urn) == 115
    assert urn[-1] in "AEIMQUY4"


def test_what_is_parsed_has_its_types() -> None:
    for capability in (
        ReadCapability.from_bytes(CAPABILITY.to_bytes()),
        ReadCapability.from_urn(URN),
        ReadCapability.from_cbor(CAPABILITY.to_cbor()),
    ):
        assert capability == CAPABILITY
        assert hash(capability) == hash(CAPABILITY)
        assert type(capability.block_size) is BlockSize
        assert type(capability.root.reference) is bytes
        assert type(capability.root.key) is Key


@pytest.mark.parametrize("length", [0, 1, 34, 65, 67, 132])
def test_binary_form_has_66_bytes(length: int) -> None:
    data = (CAPABILITY.to_bytes() * 2)[:length]
    with pytest.raises(InvalidCapability, match=f"{length} bytes"):
        ReadCapability.from_bytes(data)


@pytest.mark.parametrize("code", sorted(set(range(256)) - {0x0A, 0x0F}))
def test_other_block_sizes_are_unknown(code: int) -> None:
    data = bytes([code]) + CAPABILITY.to_bytes()[1:]
    with pytest.raises(InvalidCapability, match="block-size code"):
        ReadCapability.from_bytes(data)
    with pytest.raises(InvalidCapability, match="block-size code"):
        ReadCapability.from_urn("urn:eris:" + format_base32(data))
    with pytest.raises(InvalidCapability, match="block-size code"):
        ReadCapability.from_cbor(bytes.fromhex("d901145842") + data)


@pytest.mark.parametrize("prefix", ["urn:eris:", "URN:ERIS:", "Urn:Eris:", "urn:ERIS:"])
def test_prefix_in_any_case(prefix: str) -> None:
    capability = ReadCapability.from_urn(prefix + LETTERS)
    assert capability == CAPABILITY
    assert capability.to_urn() == URN


@pytest.mark.parametrize(
    "urn",
    [
        "",
        "urn:eris:",
        LETTERS,
        URN[:-1],
        URN + "A",
        URN + "=",
        URN[:-1] + "=",
        URN + "\n",
        " " + URN,
        URN + " ",
        URN.lower(),
        "urn:eris:" + LETTERS.lower(),
        URN[:-2] + URN[-2].lower() + URN[-1],
        URN[:-1] + "1",
        URN[:-1] + "8",
        URN[:-1] + "é",
        URN[:-1] + "\u0415",  # a Cyrillic letter that looks like E
        "urn:eris" + LETTERS,
        "urn:eris::" + LETTERS[1:],
        "eris:" + LETTERS,
        "urn:blake2b:" + LETTERS[:52],
        "urn:eri\u017f:" + LETTERS,  # a long s, which upper() would make an S
        "urn:erisx2:" + LETTERS,
        "urn:erisx3:" + LETTERS,
        "URN:ERISX2:" + LETTERS,
        "magnet:?xt=" + URN,
        URN + "?=query",
        URN + "#fragment",
        URN.replace("urn:", "urn: "),
    ],
)
def test_other_texts_are_no_capability(urn: str) -> None:
    with pytest.raises(InvalidCapability):
        ReadCapability.from_urn(urn)


def test_drafts_are_called_by_their_name() -> None:
    for name in ("erisx2", "erisx3", "ERISX2"):
        with pytest.raises(InvalidCapability, match="draft"):
            ReadCapability.from_urn(f"urn:{name}:{LETTERS}")


@pytest.mark.parametrize("letter", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
def test_spare_bits_of_a_urn_are_zero(letter: str) -> None:
    urn = URN[:-1] + letter
    if letter in "AEIMQUY4":
        assert ReadCapability.from_urn(urn).to_urn() == urn
    else:
        with pytest.raises(InvalidCapability, match="spare bits"):
            ReadCapability.from_urn(urn)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "5842",  # untagged
        "d901155842",  # another tag
        "d901135842",
        "d9d9f75842",
        "da000001145842",  # longer encodings of the tag and of the length
        "d90114590042",
        "d9011478" + "42",  # a text string
        "d901145f5842",  # indefinite length
        "d9011484",
        "d901145841",
        "d901145843",
    ],
)
def test_other_cbor_is_no_capability(prefix: str) -> None:
    with pytest.raises(InvalidCapability):
        ReadCapability.from_cbor(bytes.fromhex(prefix) + CAPABILITY.to_bytes())


def test_cbor_of_another_length_is_no_capability() -> None:
    data = CAPABILITY.to_cbor()
    for wrong in (data[:-1], data + b"\0", data[:5], b""):
        with pytest.raises(InvalidCapability):
            ReadCapability.from_cbor(wrong)


@patient
@given(st.text(max_size=130) | st.text("AEIMQUY4BCD", min_size=106, max_size=106))
def test_any_text_is_read_or_refused(text: str) -> None:
    for urn in (text, "urn:eris:" + text):
        try:
            capability = ReadCapability.from_urn(urn)
        except InvalidCapability:
            continue
        assert capability.to_urn() == "urn:eris:" + urn[9:]


@patient
@given(st.binary(max_size=80) | st.binary(min_size=64, max_size=64).map(lambda b: b"\x0f\3" + b))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read, write, given_data in (
        (ReadCapability.from_bytes, ReadCapability.to_bytes, data),
        (ReadCapability.from_cbor, ReadCapability.to_cbor, bytes.fromhex("d901145842") + data),
    ):
        try:
            capability = read(given_data)
        except InvalidCapability:
            continue
        assert write(capability) == given_data


@patient
@given(st.binary(min_size=32, max_size=32))
def test_references(reference: bytes) -> None:
    urn = format_block_urn(Reference(reference))
    assert urn.startswith("urn:blake2b:")
    letters = urn.removeprefix("urn:blake2b:")
    assert len(letters) == 52
    assert parse_base32_reference(letters.encode()) == reference
