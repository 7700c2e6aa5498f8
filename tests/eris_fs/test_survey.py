"""What a content is made of, however often its blocks are used."""

from __future__ import annotations

import asyncio

import pytest

import eris_fs
from eris import BlockSize, Key, MemoryStore, ReadCapability, Reference, ReferenceKeyPair
from eris.crypto import encrypt_node


@pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)
@pytest.mark.parametrize("levels", [1, 40, 255])
def test_a_few_blocks_that_stand_for_endless_content(size: BlockSize, levels: int) -> None:
    reference, key, block = encrypt_node(b"\x80".ljust(size, b"\0"), 0)
    blocks = [block]
    for level in range(1, levels + 1):
        reference, key, block = encrypt_node((reference + key) * size.arity, level)
        blocks.append(block)
    root = ReferenceKeyPair(Reference(reference), Key(key))

    async def run() -> eris_fs.Survey:
        store = MemoryStore(blocks)
        return await eris_fs.survey_content(store, ReadCapability(size, levels, root))

    found = asyncio.run(run())
    assert found.blocks == levels + 1
    assert found.raw_bytes == (size.arity**levels - 1) * size
