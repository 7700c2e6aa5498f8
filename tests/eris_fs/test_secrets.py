"""What a traceback with its variables shows of trees: no content, no key, no capability."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import eris_fs
from eris import BlockSize, ErisError, MemoryStore, Reference, StoreUnavailable, encode
from eris.crypto import open_block
from eris.node import unpack_node
from eris_fs.batch import BatchReader
from eris_fs.packed.reading import PackReader
from tests.eris.helpers import make_content
from tests.eris.test_model import assert_hidden
from tests.eris_fs.test_known import DictCache

CONTENT = make_content(40_000)


class Failing(MemoryStore):
    """A store that takes one block."""

    async def put(self, reference: Reference, block: bytes) -> None:
        if len(self) == 1:
            raise StoreUnavailable("down")
        await super().put(reference, block)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "one").write_bytes(CONTENT)
    (root / "other").write_bytes(CONTENT[::-1])
    return root


def shown(error: BaseException) -> Iterator[str]:
    """What there is of our types in the variables of a traceback, the lists of them included."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            for one in value if isinstance(value, list) else [value]:
                if type(one).__module__.startswith("eris"):
                    yield repr(one)


def shown_after(work: Callable[[], Coroutine[Any, Any, object]]) -> str:
    with pytest.raises(ErisError) as caught:
        asyncio.run(work())
    return "\n".join(shown(caught.value))


def test_encoding(root: Path) -> None:
    async def put(store: MemoryStore) -> eris_fs.Tree:
        known = eris_fs.KnownContents(DictCache(), store)
        capability = await eris_fs.put_tree(store, root, window=1, known=known)
        return await eris_fs.load_tree(store, capability)

    text = shown_after(lambda: put(Failing()))
    assert "EncodedBatch" in text
    for entry in asyncio.run(put(MemoryStore())).values():
        assert isinstance(entry, eris_fs.RegularFile)
        assert_hidden(text, entry.capability.root.key)


def test_packing(root: Path) -> None:
    async def put(store: MemoryStore) -> eris_fs.Tree:
        known = eris_fs.KnownContents(DictCache(), store)
        capability = await eris_fs.put_packed_tree(store, root, level=1, window=1, known=known)
        return await eris_fs.load_tree(store, capability)

    text = shown_after(lambda: put(Failing()))
    assert "_StoredPack" in text
    tree = asyncio.run(put(MemoryStore()))
    assert isinstance(tree, eris_fs.PackedTree)
    for pack in tree.packs:
        for piece in pack.pieces():
            assert_hidden(text, piece.root.key)


def test_surveying() -> None:
    capability, blocks = encode(CONTENT, block_size=BlockSize.SMALL)
    root, key = capability.root
    below = unpack_node(open_block(blocks[root], root, key, capability.level, BlockSize.SMALL))
    store = MemoryStore([blocks[root]])
    text = shown_after(lambda: eris_fs.survey_content(store, capability))
    assert "_Node" in text and len(below) == 3
    for pair in below:
        assert_hidden(text, pair.key)


def test_what_was_read(root: Path) -> None:
    batches, packs = BatchReader(root, eris_fs.Limits()), PackReader(root, eris_fs.Limits())
    batch = batches.next()
    assert batch is not None
    batch.recalled = [(CONTENT[100:166], CONTENT[200:232])]
    for text in (repr(batch), repr(packs.next())):
        assert len(text) < 1000
        assert_hidden(text, CONTENT[:32])
        assert_hidden(text, CONTENT[100:132])
    batches.close()
    packs.close()
