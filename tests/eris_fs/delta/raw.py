"""Deltas written by hand, right or wrong, with nothing of `eris_fs`: after `docs/formats.md`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import cbor2
from backports.zstd import CompressionParameter, ZstdCompressor, ZstdDict

Tree = Mapping[str, "bytes | Link | None"]
"""By path: a file's bytes, a symlink, an empty directory (None).

A path that ends in `*` is an executable file, without the star.
"""

HEADER = bytes.fromhex("da6572697482") + cbor2.dumps("kapla-delta-1")
MASK = (1 << 64) - 1


class Link(str):
    """The target of a symlink."""


@dataclass
class Patch:
    """Bytes of stream, and ranges of files of the base: number, start, length."""

    made: bytes
    ranges: tuple[tuple[int, int, int], ...] = ()
    stored: bytes | None = None
    """If it is not what compressing gives."""
    size: int | None = None


@dataclass
class Delta:
    """All that a delta is made of; what is set later overrides what follows from the rest."""

    base: Tree
    new: Tree
    kinds: bytes = b""
    numbers: list[int] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    writer: bytes = b"a test"
    sections: dict[int, bytes] = field(default_factory=dict)
    """By number: in the place of what is right."""
    head: dict[int, int | bytes] = field(default_factory=dict)
    """By number, 0 to 5, as in the table of the head."""
    behind_sections: bytes = b""
    index: bytes | None = None
    behind_index: bytes = b""
    behind: bytes = b""
    length: int | None = None
    """Of the string of bytes, as it says."""

    def to_bytes(self) -> bytes:
        """Write it."""
        patches = [_stored(self.base, patch) for patch in self.patches]
        index = self.index
        if index is None:
            index = compress(self.plain_index(), outline(self.base))
        index += self.behind_index
        values: list[int | bytes] = [
            digest(outline(self.base)),
            digest(listing(self.new)),
            len(self.new),
            sum(map(len, files(self.new).values())),
            sum(len(patch.made) for patch in self.patches),
            len(index),
        ]
        for place, value in self.head.items():
            values[place] = value
        head = b"".join(
            one if isinstance(one, bytes) else one.to_bytes(8, "little") for one in values
        )
        string = head + index + b"".join(patches)
        whole = cbor2.dumps(cbor2.CBORTag(0x65726974, ["kapla-delta-1", string]))
        if self.length is not None:
            start = len(whole) - len(string)
            width = len(cbor2.dumps(len(string)))
            said = bytearray(cbor2.dumps(self.length))
            said[0] += 0x40
            whole = whole[: start - width] + bytes(said) + string
        return whole + self.behind

    def plain_index(self) -> bytes:
        """The index before it is compressed."""
        stored = [_stored(self.base, patch) for patch in self.patches]
        ranges = [one for patch in self.patches for one in patch.ranges]
        sizes = [len(content) for content in files(self.base).values()]
        sections = [
            self.writer,
            self.kinds,
            column(self.numbers),
            column([len(one.made) if one.size is None else one.size for one in self.patches]),
            column(map(len, stored)),
            column([len(one.ranges) for one in self.patches]),
            column(steps([file for file, _, _ in ranges])),
            column([start for _, start, _ in ranges]),
            column([(sizes[file] - at - size) & MASK for file, at, size in ranges]),
            b"".join(name(path) + b"\0" for path in in_order(self.new)),
            targets(self.new),
        ]
        for place, value in self.sections.items():
            sections[place] = value
        return join(sections) + self.behind_sections


def make(base: Tree, new: Tree, *, patch_size: int = 1 << 20, before: bool = True) -> Delta:
    """Make a delta: equal files from the base, the others patched with what had their name.

    Patches end where `patch_size` says, or where a file does if it has more than a half of that.
    """
    old, own = files(base), list[bytes]()
    places = {content: number for number, content in reversed(list(enumerate(old.values())))}
    names = {path: number for number, path in enumerate(old)}
    kinds, numbers, kept = bytearray(), list[int](), list[int]()
    made = Delta(base, new)
    pending = b""
    ranges: list[tuple[int, int, int]] = []

    def cut() -> None:
        nonlocal pending, ranges
        if pending:
            made.patches.append(Patch(pending, tuple(ranges)))
        pending, ranges = b"", []

    for path in in_order(new):
        one, is_program = new[path], path.endswith("*")
        if isinstance(one, Link):
            kinds.append(2)
        elif one is None:
            kinds.append(3)
        elif one in places:
            kinds.append(6 + is_program)
            kept.append(places[one])
            numbers.append(steps(kept)[-1])
        elif one and one in own:
            kinds.append(4 + is_program)
            numbers.append(own.index(one))
        else:
            kinds.append(0 + is_program)
            numbers.append(len(one))
            own.append(one)
            for at in range(0, len(one), patch_size):
                pending += one[at : at + patch_size]
                if before and (number := names.get(path)) is not None and files(base)[path]:
                    ranges.append((number, 0, len(files(base)[path])))
                if len(pending) > patch_size // 2:
                    cut()
    cut()
    made.kinds, made.numbers = bytes(kinds), numbers
    return made


def _stored(base: Tree, patch: Patch) -> bytes:
    if patch.stored is not None:
        return patch.stored
    contents = list(files(base).values())
    prefix = b"".join(contents[file][at : at + size] for file, at, size in patch.ranges)
    stored = compress(patch.made, prefix)
    if len(stored) < len(patch.made):
        return stored
    patch.ranges = ()
    return patch.made


def compress(data: bytes, prefix: bytes = b"", *, checksum: bool = False) -> bytes:
    """One frame, which may reach back into a prefix."""
    needed = max(10, (len(data) + len(prefix) - 1).bit_length())
    codec = ZstdCompressor(
        options={
            CompressionParameter.compression_level: 3,
            CompressionParameter.window_log: needed,
            CompressionParameter.enable_long_distance_matching: 1,
            CompressionParameter.checksum_flag: int(checksum),
        },
        zstd_dict=ZstdDict(prefix, is_raw=True).as_prefix if len(prefix) >= 8 else None,
    )
    return codec.compress(data, ZstdCompressor.FLUSH_FRAME)


def outline(tree: Tree) -> bytes:
    """The outline of a tree."""
    kinds = [_kind(path, tree[path]) for path in in_order(tree)]
    return join(
        [
            bytes(kinds),
            column(map(len, files(tree).values())),
            b"".join(name(path) + b"\0" for path in in_order(tree)),
            targets(tree),
        ]
    )


def listing(tree: Tree) -> bytes:
    """The listing of a tree."""
    return outline(tree) + b"".join(map(digest, files(tree).values()))


def files(tree: Tree) -> dict[str, bytes]:
    """The files of a tree in canonical order."""
    found = {path: tree[path] for path in in_order(tree)}
    return {path: one for path, one in found.items() if isinstance(one, bytes)}


def in_order(tree: Tree) -> list[str]:
    """The paths of a tree in canonical order."""
    return sorted(tree, key=lambda path: name(path).split(b"/"))


def _kind(path: str, one: object) -> int:
    if isinstance(one, bytes):
        return int(path.endswith("*"))
    return 2 if isinstance(one, Link) else 3


def name(path: str) -> bytes:
    """The bytes of a path."""
    return path.removesuffix("*").encode("utf-8", "surrogateescape")


def targets(tree: Tree) -> bytes:
    """The targets of all symlinks."""
    found = (tree[path] for path in in_order(tree))
    return b"".join(
        one.encode("utf-8", "surrogateescape") + b"\0" for one in found if isinstance(one, Link)
    )


def digest(data: bytes) -> bytes:
    """Blake2b-256."""
    return blake2b(data, digest_size=32).digest()


def join(sections: Iterable[bytes]) -> bytes:
    """Sections, each behind its length."""
    return b"".join(len(one).to_bytes(8, "little") + one for one in sections)


def column(numbers: Iterable[int]) -> bytes:
    """Numbers, lowest bytes first."""
    rows = [number.to_bytes(8, "little") for number in numbers]
    return b"".join(bytes(row[place] for row in rows) for place in range(8))


def steps(numbers: list[int]) -> list[int]:
    """Numbers of files by how far they are from the one after the last."""
    return [
        (number - before - 1) & MASK
        for before, number in zip([-1, *numbers], numbers, strict=False)
    ]
