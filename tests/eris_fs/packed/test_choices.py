"""The pure choices: block sizes by cost, ends of packs, files that are alike."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eris_fs
from eris import BlockSize, MemoryStore, encode
from eris.model import Reference
from eris_fs.packed.cost import PIECE_SIZE, choose_by_cost, piece_lengths, root_level
from eris_fs.packed.layout import ends_pack, exceeds_pack, sample, similar
from eris_fs.packed.record import format_record, parse_record


def cost(length: int, size: BlockSize) -> int:
    _, blocks = encode(random.Random(1).randbytes(length), block_size=size)
    return sum(map(len, blocks.values()))


@pytest.mark.parametrize(
    "length", [0, 1, 1023, 9000, 20_000, 26_000, 28_000, 32_767, 32_768, 33_000, 60_000, 400_000]
)
def test_the_block_size_by_cost(length: int) -> None:
    small, large = cost(length, BlockSize.SMALL), cost(length, BlockSize.LARGE)
    expected = BlockSize.LARGE if large * 8 <= small * 9 else BlockSize.SMALL
    assert choose_by_cost(length) is expected
    assert cost(length, choose_by_cost(length)) <= small * 9 / 8


def test_long_contents_have_large_blocks() -> None:
    assert choose_by_cost(PIECE_SIZE) is BlockSize.LARGE
    assert choose_by_cost(PIECE_SIZE + 1) is BlockSize.SMALL
    assert all(choose_by_cost(size) is BlockSize.LARGE for size in range(2**21, 2**22, 4001))


@given(st.integers(1, 10**6))
def test_pieces(stored_size: int) -> None:
    lengths = piece_lengths(stored_size)
    assert sum(lengths) == stored_size
    assert set(lengths[:-1]) <= {PIECE_SIZE} and 1 <= lengths[-1] <= PIECE_SIZE


@given(st.integers(0, 300_000), st.sampled_from(BlockSize))
def test_the_level_is_that_of_the_encoder(length: int, size: BlockSize) -> None:
    capability, _ = encode(bytes(length), block_size=size)
    assert root_level(length, size) == capability.level


def test_ends_of_packs_depend_on_paths() -> None:
    paths = [f"directory/{number}".encode() for number in range(2000)]
    ends = [ends_pack(path, 10_000, 100_000) for path in paths]
    # One in twelve or so: a file of 10,000 bytes, rounded down, is that part of a pack.
    assert 100 < sum(ends) < 250
    assert not any(ends_pack(path, 10_000, 95_000) for path in paths)
    assert ends == [ends_pack(path, 12_000, 900_000) for path in paths]
    assert exceeds_pack(1_000_000, 60_000)
    assert not exceeds_pack(1_000_000, 40_000) and not exceeds_pack(0, 2_000_000)


def test_files_that_are_alike() -> None:
    source = random.Random(5)
    library, one, other = (source.randbytes(100_000) for _ in range(3))
    first = sample(one + library)
    assert similar(first, other[:33_333] + library)
    assert not similar(first, other + source.randbytes(100_000))
    assert not similar(first, other + library[:5_000])


@given(st.integers(1, 200_000), st.integers(1, 50))
def test_records_of_packs(stored_size: int, count: int) -> None:
    capabilities = random.Random(1).randbytes(66 * len(piece_lengths(stored_size)))
    references = [Reference(bytes([number]) * 32) for number in range(count)]
    record = format_record(stored_size, capabilities, references)
    assert len(record[0]) == 66 and len(record[1]) % 32 == 0
    assert parse_record(record) == (stored_size, capabilities, references)
    assert parse_record((record[0], record[1][:32])) is None or stored_size <= PIECE_SIZE


def test_trees_and_sizes_by_a_rule(tmp_path: Path) -> None:
    """A standard tree with blocks by cost takes less, and is read by everybody."""
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(30):
        (root / f"{number}").write_bytes(random.Random(number).randbytes(33_000))

    async def main() -> None:
        sizes = []
        for rule in (None, eris_fs.choose_by_cost):
            store = MemoryStore()
            capability = await eris_fs.put_tree(store, root, block_size=rule)
            tree = await eris_fs.load_tree(store, capability)
            await eris_fs.get_tree(store, tree, tmp_path / f"out {rule}")
            survey = await eris_fs.survey_tree(store, capability, tree)
            assert (survey.blocks, survey.raw_bytes) == (len(store), 30 * 33_000)
            sizes.append(survey.block_bytes)
        assert sizes[1] < sizes[0] / 2

    asyncio.run(main())


def test_the_survey_of_a_plain_content() -> None:
    async def main() -> None:
        store = MemoryStore()
        content = bytes(1_000_000) + b"end"
        capability, blocks = encode(content, block_size=BlockSize.SMALL)
        for name, block in blocks.items():
            await store.put(name, block)
        found = await eris_fs.survey_content(store, capability)
        assert found.raw_bytes == len(content)
        assert found.blocks == len(blocks) == len(store)
        assert found.block_bytes == 1024 * len(blocks)
        assert found.without(found).blocks == 0

    asyncio.run(main())
