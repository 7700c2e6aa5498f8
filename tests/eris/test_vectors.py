"""The official vectors, both ways, and what other projects publish (`tests/vectors/README.md`).

The 256 GiB vector is only begun: all of it would take a quarter of an hour at the speed of the
hash alone, and its tree adds one level to that of the 1 GiB vector, which shorter content has too.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import eris
from eris import (
    BlockNotFound,
    BlockSize,
    BlockWriter,
    ContentError,
    ConvergenceSecret,
    CorruptBlock,
    ErisError,
    InvalidCapability,
    InvalidKey,
    InvalidNode,
    InvalidPadding,
    MemoryStore,
    ReadCapability,
    Reference,
)
from eris.base32 import format_base32
from tests.eris.helpers import (
    VECTORS,
    LargeVector,
    Vector,
    all_checked,
    blake2b_256,
    chacha20,
    encode_pieces,
    keystream,
    make_content,
    naive_encode,
    read_large_vectors,
    read_vectors,
)
from tests.fakes import CorruptingStore

POSITIVE = read_vectors("positive")
NEGATIVE = read_vectors("negative")
LARGE = read_large_vectors()

# The one error class that each negative vector must raise.
NEGATIVE_ERRORS: dict[int, type[ErisError]] = {
    13: BlockNotFound,
    14: CorruptBlock,
    15: BlockNotFound,
    16: CorruptBlock,
    17: InvalidKey,
    18: InvalidKey,
    19: InvalidPadding,
    20: CorruptBlock,
    21: CorruptBlock,
    22: InvalidPadding,
    23: InvalidPadding,
    24: InvalidNode,
}

positive = pytest.mark.parametrize("vector", POSITIVE.values(), ids=lambda v: f"{v.number:02}")
negative = pytest.mark.parametrize("vector", NEGATIVE.values(), ids=lambda v: f"{v.number:02}")


def test_all_official_vectors_are_here() -> None:
    assert sorted(POSITIVE) == list(range(13))
    assert sorted(NEGATIVE) == sorted(NEGATIVE_ERRORS) == list(range(13, 25))
    assert len(list(VECTORS.glob("*.json"))) == 26


@positive
def test_encode(vector: Vector) -> None:
    capability, blocks = eris.encode(
        vector.content,
        block_size=vector.block_size,
        convergence_secret=ConvergenceSecret(vector.convergence_secret),
    )
    assert capability.to_urn() == vector.urn
    assert blocks == vector.blocks


@positive
def test_put_content(vector: Vector) -> None:
    async def main() -> None:
        store = MemoryStore()
        capability = await eris.put_content(
            store,
            vector.content,
            block_size=vector.block_size,
            convergence_secret=ConvergenceSecret(vector.convergence_secret),
        )
        assert capability == vector.capability
        assert len(store) == len(vector.blocks)
        assert all(reference in store for reference in vector.blocks)

    asyncio.run(main())


@positive
def test_decode(vector: Vector) -> None:
    assert eris.decode(vector.capability, vector.blocks) == vector.content


@positive
def test_get_content_and_length(vector: Vector) -> None:
    async def main() -> None:
        store = MemoryStore(vector.blocks.values())
        assert await eris.get_content(store, vector.capability) == vector.content
        assert await eris.content_length(store, vector.capability) == len(vector.content)
        checked = await all_checked(store, vector.capability)
        assert {each.reference for each in checked} == set(vector.blocks)
        assert not any(each.error for each in checked)

    asyncio.run(main())


@positive
def test_random_reads(vector: Vector) -> None:
    numbers = iter(range(10_000))

    def choose(limit: int) -> int:
        return int.from_bytes(make_content(4, next(numbers)), "big") % limit

    async def main() -> None:
        store = MemoryStore(vector.blocks.values())
        for _ in range(25):
            offset = choose(len(vector.content) + 3)
            length = choose(3 * vector.block_size)
            piece = await eris.read_content(store, vector.capability, offset, length)
            assert piece == vector.content[offset : offset + length]

    asyncio.run(main())


@positive
def test_capability(vector: Vector) -> None:
    capability = vector.capability
    assert capability.block_size == vector.block_size
    assert capability.level == vector.level
    assert capability.root.reference == vector.root_reference
    assert bytes(capability.root.key) == vector.root_key
    assert capability.to_urn() == vector.urn


def check_error(vector: Vector, error: ErisError | None) -> None:
    assert type(error) is NEGATIVE_ERRORS[vector.number]
    if isinstance(error, CorruptBlock):
        sizes = {20: (1024, 32768), 21: (32768, 1024)}.get(vector.number, (None, None))
        assert (error.size, error.expected_size) == sizes


def as_given(vector: Vector) -> BlockWriter:
    """A store that answers what the vector says, whether it hashes to the reference or not."""
    return CorruptingStore(MemoryStore(), vector.blocks)


@negative
def test_decode_refuses(vector: Vector) -> None:
    with pytest.raises(ErisError) as caught:
        eris.decode(vector.capability, vector.blocks)
    check_error(vector, caught.value)


@negative
def test_get_content_refuses(vector: Vector) -> None:
    with pytest.raises(ErisError) as caught:
        asyncio.run(eris.get_content(as_given(vector), vector.capability))
    check_error(vector, caught.value)


@negative
def test_check_content_reports_it_once(vector: Vector) -> None:
    checked = asyncio.run(all_checked(as_given(vector), vector.capability))
    [error] = [each.error for each in checked if each.error]
    check_error(vector, error)


@negative
def test_content_length_never_invents(vector: Vector) -> None:
    """Only what lies on the right edge of the tree is looked at."""
    try:
        length = asyncio.run(eris.content_length(as_given(vector), vector.capability))
    except ErisError as error:
        check_error(vector, error)
    else:
        assert vector.number in (15, 16)
        assert length > 0


@pytest.mark.parametrize("number", [20, 21])
def test_a_store_that_knows_the_size_says_so_too(number: int) -> None:
    vector = NEGATIVE[number]
    with pytest.raises(CorruptBlock) as caught:
        asyncio.run(eris.get_content(MemoryStore(vector.blocks.values()), vector.capability))
    check_error(vector, caught.value)


def test_published_keystream_content() -> None:
    [content] = keystream("Hello World!", 1024)
    capability, _ = eris.encode(content, block_size=BlockSize.SMALL)
    assert capability.to_urn() == (
        "urn:eris:BIAVWP2IZZ2A3WNGPMDSGFE2FJUHFYSEOKKM76DOA2J2XYLOUBSINJEVFKDT2VKH4BVNQPGZVZZTFSK5"
        "JFUZ3FTKXVX6TYCZY762UYZYG4"
    )


def test_published_keystream_ends() -> None:
    pieces = list(keystream("chachacha", 100 * 1024 * 1024))
    assert format_base32(pieces[0][:10]) == "OQTYRF453ZMTSPSY"
    assert format_base32(pieces[-1][-10:]) == "6SEHZ3OIUBEYPXMT"


def test_published_block_urn() -> None:
    [reference] = POSITIVE[0].blocks
    urn = "urn:blake2b:H77AGSYKAVTQPUHODJTQA7WZPTWGTTKLRB2GLMF5H53NEKFJ3FUQ"
    assert eris.format_block_urn(reference) == urn


PRE_1_0_URN = (
    "urn:eris:BIAT2G3VUQWWDDSHAQ4OSUPA4D3LVVLXZQQ34VCDUGOCYGOADWKABBOVWQNT4D4JI3T65ZV4F2FR6YCSAY3T"
    "46M5B2BCEUC2G3JJFGWKMI"
)


@pytest.mark.parametrize("number", [4])
def test_content_of_a_draft_fails_at_its_root(number: int) -> None:
    """Before 1.0 the level stood at nonce index 11; its leaves are the same."""
    vector = POSITIVE[number]
    root = vector.capability.root
    plain = chacha20(root.key, vector.level, vector.blocks[root.reference])
    draft_root = chacha20(root.key, vector.level, plain, nonce_index=11)
    draft_reference = Reference(blake2b_256(draft_root))
    capability = ReadCapability.from_urn(PRE_1_0_URN)
    assert capability.root == (draft_reference, root.key)

    blocks = {**vector.blocks, draft_reference: draft_root}
    with pytest.raises(InvalidKey) as caught:
        eris.decode(capability, blocks)
    assert caught.value.level == capability.level
    with pytest.raises(InvalidKey):
        asyncio.run(eris.get_content(MemoryStore(blocks.values()), capability))


@pytest.mark.parametrize(
    "urn",
    [
        "urn:erisx2:BIBC2LUTIQH43S2KRIAV7TBXNUUVPZTMV6KFA2M7AL5V6FNE77VNUDDVDAGJUEEAFATVO2QQT67SMOPTO"
        "3LGWCJFU7BZVCF5VXEQQW25BE",
        PRE_1_0_URN.replace("eris:", "erisx2:"),
        PRE_1_0_URN.replace("eris:", "erisx3:"),
    ],
)
def test_draft_namespaces_are_refused(urn: str) -> None:
    with pytest.raises(InvalidCapability, match="draft"):
        ReadCapability.from_urn(urn)


@pytest.mark.parametrize("vector", LARGE, ids=lambda v: v.name)
def test_large_contents_begin_as_described(vector: LargeVector) -> None:
    assert blake2b_256(vector.name.encode()) == vector.stream_key
    assert next(keystream(vector.name, vector.content_size))[:64] == vector.stream_begin
    capability = ReadCapability.from_urn(vector.urn)
    assert (capability.block_size, capability.level) == (vector.block_size, vector.level)


def test_100_mib() -> None:
    vector = LARGE[0]
    assert vector.content_size == 100 * 1024 * 1024
    pieces = keystream(vector.name, vector.content_size)
    capability, made = encode_pieces(pieces, vector.block_size)
    assert capability.to_urn() == vector.urn
    assert capability.level == vector.level

    blocks = dict(made)
    decoder = eris.Decoder(capability)
    for expected in keystream(vector.name, vector.content_size):
        found = bytearray()
        while len(found) < len(expected):
            for name in decoder.wanted(1):
                found += decoder.receive(blocks[name])
        assert found == expected
    rest = []
    while wanted := decoder.wanted():
        rest.append(decoder.receive(blocks[wanted[0]]))
    assert rest == [b""]
    assert decoder.done


@pytest.mark.large
def test_1_gib_in_constant_memory(tmp_path: Path) -> None:
    vector = LARGE[1]
    assert vector.content_size == 1024 * 1024 * 1024
    arguments = [vector.name, str(vector.content_size), str(int(vector.block_size))]
    command = [
        sys.executable,
        "-m",
        "tests.eris.stream_large",
        *arguments,
        str(tmp_path / "blocks"),
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[2]
    )
    result = json.loads(done.stdout)
    assert result["urn"] == vector.urn
    assert result["same"]
    assert result["peak"] < 80 * 1024 * 1024


def test_the_naive_encoder_of_these_tests_keeps_the_vectors_too() -> None:
    """Other tests compare with it."""
    for vector in POSITIVE.values():
        capability, blocks = naive_encode(
            vector.content, vector.block_size, vector.convergence_secret
        )
        assert capability == vector.capability
        assert blocks == vector.blocks


@pytest.mark.parametrize(
    "make_error",
    [
        lambda: BlockNotFound(bytes(32)),
        lambda: CorruptBlock(bytes(32)),
        lambda: InvalidKey(bytes(32), 1),
        lambda: InvalidNode("reason"),
        InvalidPadding,
    ],
)
def test_error_classes_nest(make_error: Callable[[], ErisError]) -> None:
    error = make_error()
    assert isinstance(error, ContentError) is not isinstance(error, BlockNotFound)
