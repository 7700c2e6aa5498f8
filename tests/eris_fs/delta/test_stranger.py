"""What docs/formats.md says is enough: a decoder written from it makes what ours makes."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import MemoryStore, get_content
from eris_fs.delta.encode import put_delta
from tests.eris_fs.delta import raw, stranger
from tests.eris_fs.delta.memory import MemoryFiles, apply, told
from tests.eris_fs.delta.raw import Link, Tree

_PIECES = [random.Random(number).randbytes(700 * number) for number in range(1, 6)]
_CONTENTS = st.lists(st.sampled_from([*_PIECES, b"x", b"hail"]), max_size=6).map(b"".join)
_NAMES = st.sampled_from(["a", "b", "lib", "\u00e9", "\ue000", "\U0001f389", "\udcff", "-"])
# Two at most: a directory of one is a file of the other, or has others in it.
_PATHS = st.lists(_NAMES, min_size=1, max_size=2).map("/".join)
_ENTRIES = st.one_of(_CONTENTS, st.sampled_from([Link("a"), Link("/\udcfe"), None]))


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree: dict[str, bytes | Link | None] = {}
    for path, one in draw(st.dictionaries(_PATHS, _ENTRIES, max_size=10)).items():
        above = path.split("/")[0]
        known = {other.removesuffix("*") for other in tree}
        if above in known or any(other.startswith(f"{path}/") for other in known):
            continue
        star = "*" if isinstance(one, bytes) and draw(st.booleans()) else ""
        tree[path + star] = one
    return tree


@given(trees(), trees(), st.sampled_from([1 << 16, 1 << 20]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_both_make_the_new_tree(base: Tree, new: Tree, patch_size: int, before: bool) -> None:
    delta = raw.make(base, new, patch_size=patch_size, before=before).to_bytes()
    assert stranger.apply(delta, told(base)) == told(new)
    assert asyncio.run(apply(delta, MemoryFiles(base))) == told(new)


@given(trees(), trees())
@settings(max_examples=25, deadline=None)
def test_so_it_is_with_what_the_encoder_makes(base: Tree, new: Tree) -> None:
    async def run() -> bytes:
        store = MemoryStore()
        put = await put_delta(store, MemoryFiles(base), MemoryFiles(new), level=3)
        return await get_content(store, put.capability)

    delta = asyncio.run(run())
    assert stranger.apply(delta, told(base)) == told(new)
    assert asyncio.run(apply(delta, MemoryFiles(base))) == told(new)


@pytest.mark.parametrize("new", [{"": b"now"}, {"*": b"x"}, {"": Link("a")}])
def test_a_tree_of_one_entry(new: Tree) -> None:
    for base in ({"": b"then"}, {"": Link("b")}, {"a": b"now"}):
        delta = raw.make(base, new).to_bytes()
        assert stranger.apply(delta, told(base)) == told(new)
        assert asyncio.run(apply(delta, MemoryFiles(base))) == told(new)
