"""What must be refused of a delta, rule by rule as in docs/formats.md; and nothing is allocated."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import cbor2
import pytest
from backports.zstd import ZstdCompressor

from eris_fs.errors import InvalidManifest, InvalidPatch, OtherBase, OtherListing
from eris_fs.model import Limits
from tests.eris_fs.delta import raw
from tests.eris_fs.delta.memory import MemoryFiles, apply, told
from tests.eris_fs.delta.raw import Delta, Link, Patch, Tree, column, compress, join

OLD = random.Random(1).randbytes(3000)
BASE: Tree = {"a": b"as it is", "b*": OLD, "gone": b"", "l": Link("a")}
NEW: Tree = {
    "a": b"as it is",
    "b*": OLD[:1500] + b"new" + OLD[1500:],
    "c": b"fresh " * 20,
    "d": b"fresh " * 20,
    "e": None,
    "f/g": Link("../a"),
    "h": b"",
}
# Files of the stream: b and c, in a patch each. d is what c is, a and h what the base has.
MIB = 1 << 20
LARGE: Tree = {"z": bytes(MIB)}


def good() -> Delta:
    return raw.make(BASE, NEW, patch_size=3003)


def test_the_delta_that_all_these_begin_with_is_sound() -> None:
    assert [len(patch.ranges) for patch in good().patches] == [1, 0]
    assert asyncio.run(apply(good().to_bytes(), MemoryFiles(BASE))) == told(NEW)


def changed(**fields: object) -> bytes:
    """The same, but for what is given."""
    return replace(good(), **fields).to_bytes()  # type: ignore[arg-type]


def head(place: int, value: int | bytes) -> bytes:
    return changed(head={place: value})


def section(place: int, value: bytes) -> bytes:
    return changed(sections={place: value})


def paths(*names: str) -> bytes:
    return b"".join(name.encode() + b"\0" for name in names)


def plain() -> bytes:
    """The index, before it is compressed."""
    return good().plain_index()


def frame(data: bytes, *, window_log: int = 17, dictionary: int | None = None) -> bytes:
    """A frame of one raw block, whatever its head says."""
    described = 0x80 | (dictionary is not None)
    number = b"" if dictionary is None else bytes([dictionary])
    window = bytes([(window_log - 10) << 3])
    block = (len(data) << 3 | 1).to_bytes(3, "little")
    size = len(data).to_bytes(4, "little")
    return b"\x28\xb5\x2f\xfd" + bytes([described]) + window + number + size + block + data


def unsized(data: bytes) -> bytes:
    """A frame that does not state its size."""
    codec = ZstdCompressor(level=3)
    return codec.compress(data) + codec.flush()


def patches(*more: Patch) -> bytes:
    """Patches in the place of those that there are; the first makes b, the second c."""
    return changed(patches=list(more))


def patch(place: int, **fields: object) -> bytes:
    """One patch that says something else."""
    found = good().patches
    found[place] = replace(found[place], **fields)  # type: ignore[arg-type]
    return changed(patches=found)


def large(*counts: int) -> bytes:
    """A patch for each, with so many ranges of a MiB."""
    new = {f"{number}": b"\0\0" for number in range(len(counts) + 1)}
    made = Delta(LARGE, new, bytes(len(counts) + 1), [*[2] * len(counts), 0])
    made.patches = [Patch(b"\0\0", ((0, 0, MIB),) * count, b"x") for count in counts]
    return made.to_bytes()


def _whole() -> bytes:
    return good().to_bytes()


_STRING = len(raw.HEADER)

CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    # 1. The head.
    "1 another tag": (lambda: b"\xdb" + _whole()[1:], "not a delta"),
    "1 an array of three": (lambda: _whole().replace(b"\x82\x6d", b"\x83\x6d", 1), "not a delta"),
    "1 another version": (lambda: _whole().replace(b"delta-1", b"delta-2", 1), "not a delta"),
    "1 a text, no bytes": (
        lambda: _whole()[:_STRING] + b"\x79" + _whole()[_STRING + 1 :],
        "no string of bytes",
    ),
    "1 a length without end": (
        lambda: _whole()[:_STRING] + b"\x5f" + _whole()[_STRING + 1 :],
        "no string of bytes",
    ),
    "1 a head that is not the shortest": (
        lambda: _whole()[:_STRING] + b"\x5a\0\0" + _whole()[_STRING + 1 :],
        "shortest form",
    ),
    "1 nothing": (lambda: b"", "ends early"),
    "1 the end within the head": (lambda: _whole()[:60], "ends early"),
    "1 the end within the index": (lambda: _whole()[:200], "ends early"),
    "1 the end within the patches": (lambda: _whole()[:-1], "ends early"),
    "1 something behind the end": (lambda: changed(behind=b"\0"), "goes on"),
    "1 a string without a head": (lambda: changed(length=95), "more than"),
    "1 a string of 16 EiB": (lambda: changed(length=(1 << 64) - 1), "more than"),
    "1 a million entries and one": (lambda: head(2, 1_000_001), "entries"),
    "1 more than 16 TiB": (lambda: head(3, (1 << 44) + 1), "bytes of files"),
    "1 a stream larger than the files": (lambda: head(4, 5000), "bytes of files that are made"),
    "1 an index larger than what is left": (lambda: head(5, 5000), "bytes of index"),
    "1 patches larger than the stream": (lambda: changed(length=9000), "bytes of patches"),
    "1 patches that are less than what is left": (
        lambda: changed(behind=b"x", length=len(cbor2.loads(_whole()).value[1]) + 1),
        "are announced",
    ),
    # 3. The index as a frame.
    "3 no frame": (lambda: changed(index=b"not a frame" * 9), "not a Zstandard frame"),
    "3 no size": (lambda: changed(index=unsized(plain())), "does not state its size"),
    "3 an empty frame": (lambda: changed(index=frame(b"")), "is empty"),
    "3 a checksum": (
        lambda: changed(index=compress(plain(), raw.outline(BASE), checksum=True)),
        "checksum",
    ),
    "3 a dictionary": (lambda: changed(index=frame(plain(), dictionary=7)), "dictionary"),
    "3 a window of 256 MiB": (lambda: changed(index=frame(plain(), window_log=28)), "window"),
    "3 cut short": (lambda: changed(index=compress(plain())[:-1]), "Zstandard frame"),
    "3 something behind it": (lambda: changed(behind_index=b"\0"), "unused data"),
    "3 another frame behind it": (lambda: changed(behind_index=compress(b"x" * 9)), "unused data"),
    "3 more than 64 MiB": (lambda: changed(index=compress(bytes(65 * MIB))), "more than"),
    "3 very much more than is stored": (
        lambda: changed(index=compress(bytes(17 * MIB))),
        "more than",
    ),
    # 4. Sections and columns.
    "4 something behind the sections": (lambda: changed(behind_sections=b"\0"), "follows"),
    "4 too few sections": (lambda: changed(index=compress(join([b""] * 10))), "longer than"),
    "4 a section of 16 EiB": (lambda: changed(index=compress(b"\xff" * 100)), "longer than"),
    "4 numbers that are no column": (lambda: section(2, bytes(31)), "multiple of 8"),
    "4 a number too few": (lambda: section(2, column([0, 3003, 120, 0])), "as many numbers"),
    "4 a number too many": (lambda: section(2, bytes(48)), "as many numbers"),
    "4 a size too few": (lambda: section(3, column([3003])), "stored sizes and counts"),
    "4 a stored size too many": (lambda: section(4, column([9, 9, 9])), "stored sizes and counts"),
    "4 a count too few": (lambda: section(5, column([1])), "stored sizes and counts"),
    "4 counts of other ranges": (lambda: section(5, column([1, 1])), "numbers as ranges"),
    "4 counts beyond all": (lambda: section(5, column([(1 << 64) - 1] * 2)), "more ranges"),
    "4 a file of a range too many": (lambda: section(6, column([1, 1])), "numbers as ranges"),
    "4 no start of a range": (lambda: section(7, b""), "numbers as ranges"),
    "4 no rest of a range": (lambda: section(8, b""), "numbers as ranges"),
    "4 a writer that is no UTF-8": (lambda: section(0, b"\xff"), "not UTF-8"),
    "4 a writer that cannot be printed": (lambda: section(0, b"a\nb"), "not printable"),
    "4 a long writer": (lambda: section(0, b"a" * 256), "255"),
    "4 an unknown kind": (lambda: changed(kinds=bytes([6, 1, 0, 4, 3, 2, 8])), "unknown kind 8"),
    # 5. Paths and targets.
    "5 another order": (lambda: section(9, paths("b", "a", *"cde", "f/g", "h")), "canonical"),
    "5 the order of text": (
        lambda: section(9, paths(*"abcde", "\U00010000/g") + "\ufffd\0".encode()),
        "canonical",
    ),
    "5 a path twice": (lambda: section(9, paths(*"aacde", "f/g", "h")), "twice"),
    "5 a path below another": (lambda: section(9, paths("a", "a/b", *"cde", "f/g", "h")), "under"),
    "5 a path above all": (lambda: section(9, paths("", *"bcde", "f/g", "h")), "under"),
    "5 a path too few": (lambda: section(9, paths(*"abcde", "f/g")), "as many paths"),
    "5 a path without an end": (lambda: section(9, paths(*"abcde", "f/g", "h", "i")[:-1]), "paths"),
    "5 a component that is ..": (lambda: section(9, paths("..", *"bcde", "f/g", "h")), "'..'"),
    "5 a component that is .": (lambda: section(9, paths("./a", *"bcde", "f/g", "h")), "'.'"),
    "5 an empty component": (lambda: section(9, paths("/a", *"bcde", "f/g", "h")), "empty"),
    "5 a long component": (lambda: section(9, paths("a" * 256, *"bcde", "f/g", "h")), "255"),
    "5 a long path": (lambda: section(9, paths("a/" * 2047 + "aa", *"bcde", "f/g", "h")), "4095"),
    "5 a deep path": (lambda: section(9, paths("a/" * 256 + "a", *"bcde", "f/g", "h")), "compon"),
    "5 no target": (lambda: section(10, b""), "as many targets"),
    "5 a target too many": (lambda: section(10, paths("a", "b")), "as many targets"),
    "5 a target without an end": (lambda: section(10, b"a\0b"), "as many targets"),
    "5 an empty target": (lambda: section(10, b"\0"), "target"),
    "5 a long target": (lambda: section(10, paths("a" * 4096)), "4095"),
    # 6. Files.
    "6 the same as one that is not before": (
        lambda: changed(numbers=[0, 3003, 120, 2, 0]),
        "does not come before",
    ),
    "6 a file that the base has not": (
        lambda: changed(numbers=[3, 3003, 120, 1, 0]),
        "the base does not have",
    ),
    "6 a file before the first of the base": (
        lambda: changed(numbers=[raw.MASK, 3003, 120, 1, 0]),
        "the base does not have",
    ),
    "6 files larger than the patches": (
        lambda: changed(numbers=[0, 3003, 121, 1, 0]),
        "larger than the patches",
    ),
    "6 a file of 16 EiB": (lambda: changed(numbers=[0, raw.MASK, 120, 1, 0]), "larger than"),
    "6 files smaller than the patches": (
        lambda: changed(numbers=[0, 3003, 119, 1, 0]),
        "smaller than the patches",
    ),
    "6 no file that the patches make": (
        lambda: changed(kinds=bytes([3] * 5 + [2, 3]), numbers=[]),
        "smaller than the patches",
    ),
    "6 other entries than announced": (lambda: head(2, 6), "6 entries are announced"),
    "6 other bytes than announced": (lambda: head(3, 9000), "9000 bytes of files are announced"),
    "6 another stream than announced": (lambda: head(4, 3200), "3200 bytes of stream are ann"),
    # 7. Patches.
    "7 a patch of nothing": (lambda: patch(1, size=0), "a patch of 0 bytes"),
    "7 a patch of more than 16 MiB": (lambda: patch(1, size=16 * MIB + 1), "a patch of 16777217"),
    "7 stored in nothing": (lambda: patch(1, stored=b""), "stored in 0"),
    "7 stored in more than it is": (
        lambda: patch(1, stored=b"x" * 121),
        "stored in 121",
    ),
    "7 of very much more than is stored": (
        lambda: patch(1, stored=b"x" * 200, size=200 * 65_536 + 1),
        "65536 times",
    ),
    "7 ranges of what is not compressed": (
        lambda: patch(0, stored=bytes(3003)),
        "not compressed and has ranges",
    ),
    "7 more patches than entries": (
        lambda: patches(*(Patch(b"x", (), b"x") for _ in range(8))),
        "more patches",
    ),
    # 8. Ranges.
    "8 an empty range": (
        lambda: patch(0, ranges=((1, 5, 0),), stored=b"x" * 50),
        "empty, or goes on",
    ),
    "8 a range beyond its file": (lambda: patch(0, ranges=((1, 1, 3000),)), "empty, or goes on"),
    "8 a start beyond its file": (lambda: section(7, column([1 << 63])), "empty, or goes on"),
    "8 a range of no file": (lambda: section(6, column([3])), "the base does not have"),
    "8 more ranges than its files need": (
        lambda: patch(0, ranges=((1, 0, 9),) * (7 * 64 + 1), stored=b"x" * 50),
        "more ranges",
    ),
    "8 ranges of more than 64 MiB": (lambda: large(65), "a patch with ranges"),
    "8 ranges of too many bytes together": (lambda: large(37, 37), "bytes together"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_breaks_a_rule_is_refused(name: str) -> None:
    make, reason = CASES[name]
    base = MemoryFiles(LARGE if make.__code__.co_names[:1] == ("large",) else BASE)
    with pytest.raises(InvalidManifest, match=reason):
        asyncio.run(apply(make(), base))


def test_another_base_is_refused() -> None:
    for other in ({**BASE, "a": b"as it was"}, {**BASE, "l": Link("b")}, {**BASE, "b": OLD}):
        with pytest.raises(OtherBase):
            asyncio.run(apply(_whole(), MemoryFiles(other)))
    with pytest.raises(OtherBase):
        asyncio.run(apply(head(0, bytes(32)), MemoryFiles(BASE)))


def _bad_patches() -> Iterator[bytes]:
    made, whole = NEW["c"], compress(b"fresh " * 20)
    assert isinstance(made, bytes)
    yield b"no frame"
    yield whole[:-1]
    yield whole + b"\0"
    yield compress(made[:-1])
    yield compress(made + b"x")
    yield compress(made, checksum=True)
    yield unsized(made)
    yield frame(made[:100], dictionary=7)


@pytest.mark.parametrize("stored", list(_bad_patches()))
def test_a_patch_that_is_none_is_refused(stored: bytes) -> None:
    with pytest.raises(InvalidPatch, match="patch 1 of the delta"):
        asyncio.run(apply(patch(1, stored=stored), MemoryFiles(BASE)))


def test_another_tree_than_the_delta_names_is_refused() -> None:
    for content in (
        head(1, bytes(32)),
        patch(1, stored=compress(b"frosh " * 20)),
        # The same files, one of which may be executed.
        changed(kinds=bytes([7, 1, 0, 4, 3, 2, 6])),
    ):
        with pytest.raises(OtherListing):
            asyncio.run(apply(content, MemoryFiles(BASE)))


def test_wherever_a_content_ends_it_is_refused() -> None:
    whole = _whole()
    base = MemoryFiles(BASE)
    for end in range(0, len(whole), 7):
        with pytest.raises(InvalidManifest):
            asyncio.run(apply(whole[:end], base))


def test_limits_may_be_lower() -> None:
    for limits in (
        Limits(entries=6),
        Limits(index_size=200),
        Limits(packs=1),
        Limits(pack_ratio=2),
        Limits(content_size=3000),
    ):
        with pytest.raises(InvalidManifest):
            asyncio.run(apply(_whole(), MemoryFiles(BASE), limits=limits))


def test_nothing_is_allocated_for_what_is_only_said() -> None:
    hostile = [
        # Of an index, of a stream and of files there is more than is ever held, and nothing comes.
        changed(head={3: 1 << 44, 4: 1 << 44, 5: 64 * MIB}, length=1 << 40),
        changed(index=compress(bytes(65 * MIB))),
        changed(index=compress(bytes(17 * MIB))),
        section(5, column([1 << 60, 1 << 60])),
        patch(1, stored=frame(b"x" * 100), size=16 * MIB),
    ]
    base = MemoryFiles(BASE)
    for content in hostile:
        tracemalloc.start()
        with pytest.raises((InvalidManifest, InvalidPatch)):
            asyncio.run(apply(content, base))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * MIB
