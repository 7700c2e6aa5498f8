"""The small types, and that secrets do not show."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator

import pytest

import eris
from eris import (
    BlockNotFound,
    BlockSize,
    ConvergenceSecret,
    CorruptBlock,
    Decoder,
    Encoder,
    ErisError,
    InvalidCapability,
    InvalidKey,
    InvalidNode,
    InvalidPadding,
    Key,
    MemoryStore,
    ReadCapability,
    Reference,
    ReferenceKeyPair,
    StoreRefused,
    StoreUnavailable,
    choose_block_size,
)
from eris.model import NULL_CONVERGENCE_SECRET
from tests.eris.helpers import all_checked, make_content
from tests.fakes import CorruptingStore

SECRET_BYTES = make_content(32, seed=7)
KEY = Key(SECRET_BYTES)
SECRET = ConvergenceSecret(SECRET_BYTES)
PAIR = ReferenceKeyPair(Reference(bytes(range(32))), KEY)
CAPABILITY = ReadCapability(BlockSize.SMALL, 1, PAIR)


def spellings(secret: bytes) -> Iterator[str]:
    """How bytes might be written by somebody careless; parts of them count too."""
    for part in (secret[:8], secret[12:20], secret[-8:]):
        yield part.hex()
        yield repr(part)[2:-1]
        yield str(list(part))[1:-1]
    yield base64.b32encode(secret).decode().rstrip("=")[:40]
    yield base64.b64encode(secret).decode()[:40]
    yield str(int.from_bytes(secret, "big"))


def assert_hidden(text: str, secret: bytes = SECRET_BYTES) -> None:
    for spelling in spellings(secret):
        assert spelling.lower() not in text.lower()


def test_block_sizes() -> None:
    assert [(size, size.arity, size.code, size.label) for size in BlockSize] == [
        (1024, 16, 0x0A, "1KiB"),
        (32768, 512, 0x0F, "32KiB"),
    ]


@pytest.mark.parametrize(
    ("length", "block_size"),
    [(0, 1024), (16383, 1024), (16384, 32768), (16385, 32768), (2**40, 32768)],
)
def test_small_content_gets_small_blocks(length: int, block_size: int) -> None:
    assert choose_block_size(length) == block_size


@pytest.mark.parametrize("kind", [Key, ConvergenceSecret])
@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_secrets_have_32_bytes(kind: type[Key | ConvergenceSecret], length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes") as caught:
        kind(SECRET_BYTES[:1] * length)
    assert_hidden(str(caught.value), SECRET_BYTES[:1] * 32)


def test_convergence_secrets() -> None:
    assert ConvergenceSecret.null() == bytes(32) == NULL_CONVERGENCE_SECRET
    assert len({ConvergenceSecret.unique() for _ in range(20)}) == 20


WAYS_TO_SHOW: list[Callable[[object], str]] = [
    repr,
    str,
    ascii,
    format,
    lambda value: f"{value}",
    lambda value: f"{value!r}",
    lambda value: "%s" % (value,),  # noqa: UP031
    lambda value: "%r" % (value,),  # noqa: UP031
    lambda value: "{} {!s} {!a}".format(value, value, value),  # noqa: UP032
    lambda value: str([value]),
    lambda value: str((value,)),
    lambda value: str({value: value}),
]


@pytest.mark.parametrize("show", WAYS_TO_SHOW)
@pytest.mark.parametrize("value", [KEY, SECRET, PAIR, CAPABILITY], ids=lambda v: type(v).__name__)
def test_secrets_do_not_show(value: object, show: Callable[[object], str]) -> None:
    assert_hidden(show(value))


@pytest.mark.parametrize("value", [KEY, SECRET, PAIR, CAPABILITY], ids=lambda v: type(v).__name__)
def test_secrets_do_not_show_in_logs(value: object, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("%s %r", value, value)
    assert_hidden(caplog.text)


@pytest.mark.parametrize("value", [KEY, SECRET, PAIR, CAPABILITY], ids=lambda v: type(v).__name__)
def test_copies_hide_the_secret_too(value: object) -> None:
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value
        assert type(twin) is type(value)
        assert_hidden(repr(twin))


def test_the_redaction_says_what_it_is() -> None:
    assert repr(KEY) == "<Key, redacted>"
    assert repr(SECRET) == "<ConvergenceSecret, redacted>"
    assert repr(CAPABILITY) == "<ReadCapability 1KiB level 1, redacted>"


def test_codec_objects_do_not_show_secrets() -> None:
    encoder = Encoder(BlockSize.SMALL, SECRET)
    encoder.feed(SECRET_BYTES * 1000)
    assert_hidden(repr(encoder))
    decoder = Decoder(CAPABILITY)
    decoder.wanted()
    assert_hidden(repr(decoder))


def broken_contents() -> Iterator[tuple[type[ErisError], ReadCapability, dict[Reference, bytes]]]:
    capability, blocks = eris.encode(make_content(5000), block_size=BlockSize.SMALL)
    root = capability.root.reference
    yield BlockNotFound, capability, {}
    yield CorruptBlock, capability, {**blocks, root: bytes(1024)}
    yield CorruptBlock, capability, {**blocks, root: bytes(5)}
    wrong_key = ReadCapability(BlockSize.SMALL, 1, ReferenceKeyPair(root, KEY))
    yield InvalidKey, wrong_key, blocks
    small, blocks = eris.encode(b"", block_size=BlockSize.SMALL)
    wrong_key = ReadCapability(BlockSize.SMALL, 0, ReferenceKeyPair(small.root.reference, KEY))
    yield InvalidPadding, wrong_key, blocks


@pytest.mark.parametrize(("kind", "capability", "blocks"), list(broken_contents()))
def test_errors_of_decoding_do_not_show_secrets(
    kind: type[ErisError], capability: ReadCapability, blocks: dict[Reference, bytes]
) -> None:
    store = CorruptingStore(MemoryStore(), blocks)
    with pytest.raises(kind) as caught:
        asyncio.run(eris.get_content(store, capability))
    everything = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert_hidden(everything, bytes(capability.root.key))
    assert_hidden(everything, capability.to_bytes())
    checked = asyncio.run(all_checked(store, capability))
    assert_hidden(repr(checked), bytes(capability.root.key))


def test_errors_of_parsing_do_not_show_secrets() -> None:
    urn = CAPABILITY.to_urn()
    for wrong in (urn[:-1], urn + "A", urn.replace("urn:eris:", "urn:erix:"), urn[:-1] + "1"):
        with pytest.raises(InvalidCapability) as caught:
            ReadCapability.from_urn(wrong)
        text = "".join(traceback.format_exception(caught.value))
        assert urn[40:80] not in text
        assert_hidden(text)
    for data in (CAPABILITY.to_bytes()[1:], b"\x0b" + CAPABILITY.to_bytes()[1:]):
        with pytest.raises(InvalidCapability) as caught:
            ReadCapability.from_bytes(data)
        assert_hidden("".join(traceback.format_exception(caught.value)))
    with pytest.raises(InvalidCapability) as caught:
        ReadCapability.from_cbor(CAPABILITY.to_cbor()[1:])
    assert_hidden("".join(traceback.format_exception(caught.value)))


def test_messages_name_a_block_by_its_first_letters() -> None:
    reference = Reference(make_content(32))
    letters = eris.format_block_urn(reference).removeprefix("urn:blake2b:")
    for error in (
        BlockNotFound(reference),
        BlockNotFound(reference, position=3, total=10),
        CorruptBlock(reference),
        CorruptBlock(reference, size=1, expected_size=1024),
        InvalidKey(reference, 2),
    ):
        assert letters[:8] in str(error)
        assert letters[:9] not in str(error)


def test_messages_carry_the_facts() -> None:
    reference = Reference(bytes(32))
    assert "3 of 10" in str(BlockNotFound(reference, position=3, total=10))
    assert "3 of an unknown number" in str(BlockNotFound(reference, position=3))
    assert "1 bytes instead of 1024" in str(CorruptBlock(reference, size=1, expected_size=1024))
    assert "level-2" in str(InvalidKey(reference, 2))
    assert InvalidNode("reason").reason == "reason"
    assert isinstance(InvalidCapability("reason"), ValueError)
    for error in (StoreRefused("why"), StoreUnavailable("why")):
        assert isinstance(error, eris.StoreError)
        assert not isinstance(error, eris.ContentError)
