"""The index of packed trees: exact both ways, and nothing hostile gets through."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import eris_fs
from eris import BlockSize, MemoryStore, ReadCapability, encode
from eris_fs import (
    EmptyDirectory,
    InvalidManifest,
    InvalidPack,
    Limits,
    Pack,
    PackedFile,
    PackedTree,
    RegularFile,
    Symlink,
    TreeTooLarge,
    UnsafePath,
)
from eris_fs.packed import PackedIndexReader, format_index
from eris_fs.packed.cost import MAX_PACK_SIZE, PIECE_SIZE
from tests.eris_fs.trees import capability
from tests.examples import examples

TAG = 0x65726974
VERSION = "kapla-packed-1"


def column(*numbers: int) -> bytes:
    rows = [number.to_bytes(8, "little") for number in numbers]
    return b"".join(bytes(row[place] for row in rows) for place in range(8))


def piece(level: int = 0, code: int = 0x0F) -> bytes:
    return bytes([code, level]) + bytes(64)


GOOD: dict[str, bytes] = {
    "writer": b"zstd 1.5.7 level 19",
    "sizes": column(100, 70_000),
    "stored": column(100, 40_000),
    "capabilities": piece() + piece() + piece(),
    "kinds": bytes([0, 1, 2, 3, 4, 5, 0]),
    "numbers": column(60, 70_040, 0, 1, 0),
    "paths": b"a\0b\0c\0d\0e\xff\0f\0g\0",
    "targets": b"/any\xff\0",
}


def plain(**changes: bytes) -> bytes:
    sections = (GOOD | changes).values()
    return b"".join(len(part).to_bytes(8, "little") + part for part in sections)


def frame(data: bytes, **how: Any) -> bytes:
    return zstandard.ZstdCompressor(level=3, **how).compress(data)


def index(**changes: bytes) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(TAG, [VERSION, frame(plain(**changes))]))


def read(data: bytes, limits: Limits | None = None, step: int | None = None) -> PackedTree:
    reader = PackedIndexReader(limits or Limits())
    for start in range(0, len(data), step or len(data) or 1):
        reader.feed(data[start : start + (step or len(data))])
    return reader.finish()


def test_it_reads_what_the_document_says() -> None:
    tree = read(index())
    assert list(tree.items()) == [
        (("a",), PackedFile(0, 60)),
        (("b",), PackedFile(60, 70_040, True)),
        (("c",), Symlink("/any\udcff")),
        (("d",), EmptyDirectory()),
        (("e\udcff",), PackedFile(0, 60)),
        (("f",), PackedFile(60, 70_040, True)),
        (("g",), PackedFile(0, 0)),
    ]
    assert [(pack.offset, pack.size, pack.stored_size) for pack in tree.packs] == [
        (0, 100, 100),
        (100, 70_000, 40_000),
    ]
    assert [len(list(pack.pieces())) for pack in tree.packs] == [1, 2]
    assert tree.writer == "zstd 1.5.7 level 19"
    assert repr(tree.packs[0]) == "<Pack of 100 bytes at 0, redacted>"


def test_it_may_come_in_any_pieces() -> None:
    data = index()
    assert read(data, step=1) == read(data, step=7) == read(data)


def test_what_is_written_is_read() -> None:
    tree = read(index())
    assert list(read(format_index(tree)).items()) == list(tree.items())


BAD: dict[str, dict[str, bytes]] = {
    "a writer with a terminal sequence": {"writer": b"\x1b[m"},
    "a writer that is no UTF-8": {"writer": b"\xff"},
    "a long writer": {"writer": b"x" * 256},
    "a pack of nothing": {"sizes": column(0, 70_100)},
    "a pack stored in nothing": {"stored": column(0, 40_000)},
    "a pack stored in more": {"stored": column(101, 40_000)},
    "too large a pack": {
        "sizes": column(100, MAX_PACK_SIZE + 1),
        "numbers": column(60, MAX_PACK_SIZE + 41, 0, 1, 0),
    },
    "an enormous pack": {"sizes": column(100, 2**64 - 1)},
    "packs of other numbers": {"stored": column(100)},
    "half a number": {"stored": column(100, 40_000) + b"\0"},
    "too few capabilities": {"capabilities": piece() * 2},
    "too many capabilities": {"capabilities": piece() * 4},
    "half a capability": {"capabilities": piece() * 3 + b"\x0f"},
    "no capability": {"capabilities": piece() * 2 + piece(code=0)},
    "a whole piece of small blocks": {"capabilities": piece() + piece(2, 0x0A) + piece()},
    "a whole piece with a level": {"capabilities": piece() + piece(1) + piece()},
    "a last piece of a high level": {"capabilities": piece() * 2 + piece(1)},
    "a last piece of a low level": {"capabilities": piece() * 2 + piece(0, 0x0A)},
    "an unknown kind": {"kinds": bytes([0, 1, 2, 6, 4, 5, 0])},
    "one more kind": {"kinds": bytes([0, 1, 2, 3, 4, 5, 0, 3])},
    "one more number": {"numbers": column(60, 70_040, 0, 1, 0, 0)},
    "one number less": {"numbers": column(60, 70_040, 0, 1)},
    "a gap": {"numbers": column(60, 70_039, 0, 1, 0)},
    "files beyond the packs": {"numbers": column(60, 70_041, 0, 1, 0)},
    "a file of enormous size": {"numbers": column(60, 2**64 - 60, 0, 1, 0)},
    "the same as itself": {
        "kinds": bytes([4, 1, 2, 3, 0, 5, 0]),
        "numbers": column(0, 60, 70_040, 1, 0),
    },
    "the same as one that comes later": {"numbers": column(60, 70_040, 2, 1, 0)},
    "one path more": {"paths": GOOD["paths"] + b"h\0"},
    "a path without end": {"paths": GOOD["paths"][:-1]},
    "one target more": {"targets": b"a\0b\0"},
    "a target without end": {"targets": b"a"},
    "no target": {"targets": b""},
    "an empty target": {"targets": b"\0"},
    "a long target": {"targets": b"x" * 4096 + b"\0"},
    "a path twice": {"paths": b"a\0b\0c\0d\0e\0f\0a\0"},
    "a path under a file": {"paths": b"a\0b\0c\0d\0e\0f\0a/b\0"},
    "a root that is not alone": {"paths": b"\0b\0c\0d\0e\0f\0g\0"},
    "a path upwards": {"paths": b"a\0b\0c\0d\0e\0f\0../x\0"},
    "a path from the root": {"paths": b"a\0b\0c\0d\0e\0f\0/etc\0"},
    "a dot": {"paths": b"a\0b\0c\0d\0e\0f\0x/.\0"},
    "an empty component": {"paths": b"a\0b\0c\0d\0e\0f\0x//y\0"},
    "a slash at the end": {"paths": b"a\0b\0c\0d\0e\0f\0x/\0"},
    "a long name": {"paths": b"a\0b\0c\0d\0e\0f\0" + b"x" * 256 + b"\0"},
    "a deep path": {"paths": b"a\0b\0c\0d\0e\0f\0" + b"x/" * 256 + b"x\0"},
    "a long path": {"paths": b"a\0b\0c\0d\0e\0f\0" + b"/".join([b"x" * 200] * 21) + b"\0"},
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_sections(name: str) -> None:
    with pytest.raises(InvalidManifest):
        read(index(**BAD[name]))


def test_more_packs_than_files_need() -> None:
    count = 1000
    packs = {
        "sizes": column(*[1] * count),
        "stored": column(*[1] * count),
        "capabilities": piece() * count,
        "kinds": bytes([0]),
        "numbers": column(count),
        "paths": b"a\0",
        "targets": b"",
    }
    with pytest.raises(InvalidManifest, match="more packs"):
        read(index(**packs))
    # As many as entries is fine, however small.
    kinds = {"kinds": bytes(count), "numbers": column(*[1] * count)}
    names = {"paths": b"".join(b"%04d\0" % number for number in range(count))}
    assert len(read(index(**packs | kinds | names)).packs) == count
    with pytest.raises(InvalidManifest, match="more packs"):
        read(index(**packs | kinds | names), Limits(packs=count - 1))


def item(*values: object) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(TAG, list(values)))


FRAME = frame(plain())
HEADER = index()[: 6 + 15]
HEADERS: dict[str, bytes] = {
    "nothing": b"",
    "a version of the future": item("kapla-packed-2", FRAME),
    "a longer version": item(VERSION + "1", FRAME),
    "text for bytes": item(VERSION, "x" * 100),
    "one item more": item(VERSION, FRAME, 1),
    "something behind it": index() + b"\0",
    "one byte short": index()[:-1],
    "an indefinite length": HEADER + b"\x5f\x58\x40" + FRAME,
    "a reserved length": HEADER + b"\x5c" + FRAME,
    "a length that is too long": HEADER + b"\x5a" + len(FRAME).to_bytes(4, "big") + FRAME,
    "an enormous length": HEADER + b"\x5b" + b"\xff" * 8 + FRAME,
    "no frame": item(VERSION, b"x" * 100),
    "an empty frame": item(VERSION, frame(b"")),
    "two frames": item(VERSION, FRAME + FRAME),
    "a frame and more": item(VERSION, FRAME + b"\0"),
    "a frame cut short": item(VERSION, FRAME[:-1]),
    "a skippable frame before it": item(VERSION, b"\x50\x2a\x4d\x18\0\0\0\0" + FRAME),
    "a frame with a checksum": item(VERSION, frame(plain(), write_checksum=True)),
    "a frame that does not say its size": item(VERSION, frame(plain(), write_content_size=False)),
    "sections cut short": item(VERSION, frame(plain()[:-1])),
    "something behind the sections": item(VERSION, frame(plain() + b"\0")),
    "a section of enormous length": item(VERSION, frame(b"\xff" * 8 + plain())),
    "zeroes": item(VERSION, frame(bytes(100_000_000))),
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers_and_frames(name: str) -> None:
    data = HEADERS[name]
    for step in (None, 1) if len(data) < 1000 else (None,):
        with pytest.raises(InvalidManifest):
            read(data, step=step)


def test_a_bomb_takes_no_memory() -> None:
    bombs = [HEADERS["zeroes"], HEADERS["an enormous length"]]
    tracemalloc.start()
    try:
        for bomb in bombs:
            with pytest.raises(InvalidManifest):
                read(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "limits",
    [
        Limits(entries=6),
        Limits(index_size=len(plain()) - 1),
        Limits(index_size=100),
        Limits(pack_ratio=1),
        Limits(content_size=2 * 70_100 - 1),
        Limits(depth=0),
        Limits(name_size=1),
        Limits(path_size=1),
        Limits(target_size=4),
    ],
    ids=str,
)
def test_limits(limits: Limits) -> None:
    with pytest.raises(InvalidManifest):
        read(index(), limits)


def test_the_limits_are_exact() -> None:
    limits = Limits(7, len(plain()), 1, 2, 2, 5, pack_ratio=2, content_size=140_200)
    assert read(index(), limits)


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_any_bytes_are_refused_or_read(data: st.DataObject) -> None:
    """Whatever is changed within the frame, the answer is a tree or the documented error."""
    content = bytearray(plain())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        tree = read(item(VERSION, frame(bytes(content))))
    except InvalidManifest:
        return
    assert sum(pack.size for pack in tree.packs) <= 2 * MAX_PACK_SIZE
    read(format_index(tree))


UNWRITABLE: list[tuple[type[Exception], PackedTree]] = [
    (ValueError, PackedTree({("a",): PackedFile(0, 5)}, [])),
    (ValueError, PackedTree({("a",): RegularFile(capability())}, [])),
    (ValueError, PackedTree({}, [Pack(0, 5, 5, piece())])),
    (
        ValueError,
        PackedTree({("a",): PackedFile(2, 3), ("b",): PackedFile(0, 2)}, [Pack(0, 5, 5, piece())]),
    ),
    (UnsafePath, PackedTree({("..",): EmptyDirectory()}, [])),
    (UnsafePath, PackedTree({("\ud800",): EmptyDirectory()}, [])),
    (UnsafePath, PackedTree({("a",): Symlink("")}, [])),
    (UnsafePath, PackedTree({("a",): Symlink("b"), ("a", "b"): EmptyDirectory()}, [])),
]


@pytest.mark.parametrize(("error", "tree"), UNWRITABLE)
def test_what_would_be_refused_is_not_written(error: type[Exception], tree: PackedTree) -> None:
    with pytest.raises(error):
        format_index(tree)


def test_a_tree_beyond_the_limits_is_not_written() -> None:
    with pytest.raises(TreeTooLarge):
        format_index(read(index()), Limits(index_size=100))
    with pytest.raises(TreeTooLarge):
        format_index(read(index()), Limits(entries=6))
    with pytest.raises(TreeTooLarge):
        format_index(read(index()), Limits(content_size=140_199))


def test_the_index_of_a_huge_empty_file() -> None:
    """Its packs are all the same, and so the index is compressed a thousand times and more."""
    size = 8 * 1024 * 1024
    packs = [Pack(number * size, size, 300, piece()) for number in range(20_000)]
    tree = PackedTree({("zeroes",): PackedFile(0, 20_000 * size)}, packs)
    data = format_index(tree)
    assert len(data) * 1024 < 20_000 * 66
    assert list(read(data).items()) == list(tree.items())


# --- packs ------------------------------------------------------------------------------------


def restore_pack(stored: bytes, size: int, stated: int | None = None) -> bytes:
    """Have a tree of one file in one pack, whose index says `size` and `stated`, and read it."""

    async def main() -> bytes:
        store = MemoryStore()
        capabilities = b""
        for start in range(0, len(stored), PIECE_SIZE):
            made, blocks = encode(stored[start : start + PIECE_SIZE], block_size=BlockSize.LARGE)
            capabilities += made.to_bytes()
            for name, block in blocks.items():
                await store.put(name, block)
        pack = Pack(0, size, stated or len(stored), capabilities)
        tree = PackedTree({("a",): PackedFile(0, size)}, [pack])
        pieces = [piece.content async for piece in eris_fs.read_files(store, tree, [("a",)])]
        return b"".join(pieces)

    return asyncio.run(main())


CONTENT = bytes(range(256)) * 400


def test_a_pack_is_read() -> None:
    assert restore_pack(frame(CONTENT), len(CONTENT)) == CONTENT
    assert restore_pack(CONTENT, len(CONTENT)) == CONTENT


PACKS: dict[str, Callable[[], bytes]] = {
    "no frame": lambda: b"x" * 1000,
    "a frame of less": lambda: frame(CONTENT[:-1]),
    "a frame of more": lambda: frame(CONTENT + b"x"),
    "two frames": lambda: frame(CONTENT[:50_000]) + frame(CONTENT[50_000:]),
    "a frame and more": lambda: frame(CONTENT) + b"x",
    "a frame cut short": lambda: frame(CONTENT)[:-1],
    "a checksum": lambda: frame(CONTENT, write_checksum=True),
    "no size": lambda: frame(CONTENT, write_content_size=False),
    "a skippable frame": lambda: b"\x50\x2a\x4d\x18\x04\0\0\0abcd",
    "a bomb": lambda: frame(bytes(50_000_000)),
    "a frame that lies": lambda: frame(CONTENT).replace(
        len(CONTENT).to_bytes(4, "little"), (len(CONTENT) - 1).to_bytes(4, "little"), 1
    ),
}


@pytest.mark.parametrize("name", PACKS)
def test_hostile_packs(name: str) -> None:
    with pytest.raises(InvalidPack) as caught:
        restore_pack(PACKS[name](), len(CONTENT))
    assert caught.value.number == 0


@pytest.mark.parametrize("difference", [-1, 1])
def test_pieces_of_another_length(difference: int) -> None:
    with pytest.raises(InvalidPack):
        restore_pack(CONTENT, len(CONTENT), len(CONTENT) + difference)
    with pytest.raises(InvalidPack):
        restore_pack(CONTENT[:1000], 1000, 1000 + difference)


def test_a_piece_without_end_takes_no_memory() -> None:
    """A capability of a high level stands for any amount of content."""
    from tests.eris_fs.trees import bomb

    endless, blocks = bomb(6)

    async def main() -> None:
        pack = Pack(0, 2000, 1500, endless.to_bytes())
        tree = PackedTree({("a",): PackedFile(0, 2000)}, [pack])
        with pytest.raises(InvalidPack):
            async for _ in eris_fs.read_files(MemoryStore(blocks), tree, [("a",)]):
                pass

    asyncio.run(main())


def test_the_same_packs_are_not_loaded_without_end() -> None:
    """Two packs, neither of which leaves room for the other, and many files of a byte."""
    size = 16 * 1024 * 1024
    from eris_fs.packed.plan import Load, plan_loads

    packs = [Pack(0, size, size, b""), Pack(size, size, size, b"")]
    files = [PackedFile(place * size, 1) for place in (0, 1) * 10_000]
    loads = 0
    with pytest.raises(TreeTooLarge) as caught:
        for step in plan_loads(packs, files, size):
            loads += isinstance(step, Load)
    assert loads == 64
    assert caught.value.limit == 2**30 + 64 * len(files)
    # With room for both each is loaded once.
    steps = list(plan_loads(packs, files, 2 * size))
    assert sum(isinstance(step, Load) for step in steps) == 2


def test_what_is_wanted_again_is_kept_before_what_is_not() -> None:
    from eris_fs.packed.plan import Load, plan_loads

    packs = [Pack(number * 10, 10, 10, b"") for number in range(6)]
    # The first pack again at the end, with room for one more only.
    files = [PackedFile(number * 10, 10) for number in (0, 1, 2, 3, 4, 5, 0)]
    steps = list(plan_loads(packs, files, 20))
    assert steps == [
        Load(0, ()),
        Load(1, ()),
        Load(2, (1,)),
        Load(3, (2,)),
        Load(4, (3,)),
        Load(5, (4,)),
        0,
    ]


def test_uses_of_packs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from eris_fs.packed import plan

    monkeypatch.setattr(plan, "_MOST_USES", 100)
    packs = [Pack(number, 1, 1, b"") for number in range(50)]
    files = [PackedFile(0, 50)] * 3
    assert sum(1 for _ in plan.plan_loads(packs, files[:2], 100)) == 100
    with pytest.raises(TreeTooLarge) as caught:
        list(plan.plan_loads(packs, files, 100))
    assert caught.value.limit == 100


def test_a_plan_that_fails_says_so_to_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    from eris_fs.packed import plan, read_packed_files

    monkeypatch.setattr(plan, "_ALWAYS", 0)
    monkeypatch.setattr(plan, "_MOST_AGAIN", 2)

    async def main() -> None:
        store = MemoryStore()
        packs = []
        for number in range(2):
            content = bytes([number]) * 20_000
            made, blocks = encode(content, block_size=BlockSize.LARGE)
            for name, block in blocks.items():
                await store.put(name, block)
            packs.append(Pack(number * 20_000, 20_000, 20_000, made.to_bytes()))
        files: dict[eris_fs.Path, eris_fs.Entry] = {
            (f"{at}",): PackedFile(at, 9_000) for at in (0, 20_000)
        }
        tree = PackedTree(files, packs)
        wanted = list(files) * 50
        with pytest.raises(TreeTooLarge):
            async for _ in read_packed_files(store, tree, wanted, room=1):
                pass

    asyncio.run(main())


def test_a_path_that_is_no_file() -> None:
    async def main() -> None:
        tree = read(index())
        with pytest.raises(ValueError, match="not a file"):
            async for _ in eris_fs.read_files(MemoryStore(), tree, [("d",)]):
                pass

    asyncio.run(main())


def test_errors_hold_no_capability() -> None:
    secret = ReadCapability.from_bytes(bytes([0x0F, 1]) + bytes(range(64)))
    with pytest.raises(InvalidManifest) as caught:
        read(index(capabilities=secret.to_bytes() * 3))
    assert secret.to_urn()[9:30] not in str(caught.value)


@settings(max_examples=examples(200), deadline=None)
@given(st.data())
def test_any_frame_is_refused_or_has_its_size(data: st.DataObject) -> None:
    stored = bytearray(frame(CONTENT))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(stored) - 1))
        stored[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        content = restore_pack(bytes(stored), len(CONTENT))
    except InvalidPack:
        return
    assert len(content) == len(CONTENT)
