"""The index of a delta: tree and patches to bytes and back, without I/O.

It is compressed with the outline of the base as what came before, so that what both trees have
costs next to nothing. Reading takes the whole index; every length is checked against what is there,
and every stated size against its limit, before anything is made of it.

Source: `docs/formats.md`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from eris_fs.delta.model import BaseFile, BaseRange, DeltaTree, Patch
from eris_fs.errors import InvalidManifest, TreeTooLarge
from eris_fs.model import (
    DEFAULT_LIMITS,
    EmptyDirectory,
    Limits,
    PackedFile,
    Symlink,
)
from eris_fs.outline import Outline, canonical_order, join_texts
from eris_fs.packed.frame import (
    MAX_PREFIX_SIZE,
    InvalidFrame,
    compress_with,
    content_size,
    decompress_with,
)
from eris_fs.paths import raw_text
from eris_fs.sections import (
    EMPTY_DIRECTORY,
    FILE,
    SAME,
    SYMLINK,
    SectionParser,
    StreamNumbers,
    format_column,
    format_sections,
)

__all__ = [
    "MAX_INDEX_SIZE",
    "MAX_PATCH_SIZE",
    "WINDOW_LIMIT",
    "format_delta_index",
    "most_base_bytes",
    "parse_delta_index",
]

MAX_PATCH_SIZE: Final = 16 * 1024 * 1024
"""Bytes of stream in a patch."""

MAX_INDEX_SIZE: Final = 64 * 1024 * 1024
"""Bytes of an index, decompressed: with the outline before it the window is 128 MiB."""

WINDOW_LIMIT: Final = 128 * 1024 * 1024
"""Bytes: what is reached back from the end of a frame, prefix and all."""

_SECTIONS: Final = 11
_LEVEL: Final = 19
# So large an index may be whatever its ratio.
_HARMLESS: Final = 16 * 1024 * 1024
_LEAST_BYTES_A_PATCH: Final = 64 * 1024
_MOST_RANGES: Final = 4_000_000
# For each entry and each 64 KiB of stream: a range takes memory, and next to nothing in the index.
_RANGES_EACH: Final = 64

_BASE: Final = 6
_STREAM: Final = (FILE, FILE + 1)
_REPEATED: Final = (SAME, SAME + 1)
_NUMBERED: Final = (*_STREAM, *_REPEATED, _BASE, _BASE + 1)
_KINDS: Final = frozenset((*_NUMBERED, SYMLINK, EMPTY_DIRECTORY))
_MASK: Final = (1 << 64) - 1


def most_base_bytes(base_size: int, stream_size: int) -> int:
    """How many bytes all ranges of a delta may have together, so that applying it ends.

    Each piece of a large file has more of the base around it than the piece itself has, and small
    files may be in several.
    """
    return 8 * (base_size + stream_size) + MAX_PREFIX_SIZE


# --- writing ----------------------------------------------------------------------------------


def format_delta_index(tree: DeltaTree, base: Outline, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Write the index of a delta, compressed.

    The entries must be in canonical order, files of equal content in the stream after the first.
    Raises: TreeTooLarge; ValueError, if files, patches and base do not agree.
    """
    if list(tree) != canonical_order(tree, limits):
        raise ValueError("the entries are not in canonical order")
    kinds, numbers = _format_kinds(tree)
    ranges = [one for patch in tree.patches for one in patch.ranges]
    sections = (
        tree.writer.encode(),
        bytes(kinds),
        format_column(numbers),
        format_column([patch.size for patch in tree.patches]),
        format_column([patch.stored_size for patch in tree.patches]),
        format_column([len(patch.ranges) for patch in tree.patches]),
        format_column(list(_steps(one.file for one in ranges))),
        format_column([one.offset for one in ranges]),
        format_column([_rest(one, base) for one in ranges]),
        join_texts(raw_text("/".join(path)) for path in tree),
        join_texts(raw_text(one.target) for one in tree.values() if isinstance(one, Symlink)),
    )
    plain = format_sections(sections)
    # More is not even compressed: it would be beyond the window.
    _check_size(len(plain), min(limits.index_size, MAX_INDEX_SIZE))
    before = base.to_bytes()
    frame = compress_with(plain, _prefix(before), _LEVEL)
    _check_size(len(plain), _size_limit(len(frame), before, limits))
    # What a reader would refuse is not written.
    _parse(frame, base, before, limits)
    return frame


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TreeTooLarge("bytes of index", limit)


def _prefix(outline: bytes) -> bytes:
    """The end of an outline: paths and targets, which are worth most, are there."""
    return outline[-MAX_PREFIX_SIZE:]


def _size_limit(compressed: int, outline: bytes, limits: Limits) -> int:
    """How large an index may be that is compressed to so many bytes behind this outline."""
    harmless = max(limits.index_ratio * compressed, _HARMLESS, 4 * len(outline))
    return min(limits.index_size, MAX_INDEX_SIZE, harmless)


def _format_kinds(tree: DeltaTree) -> tuple[bytearray, list[int]]:
    kinds, numbers = bytearray(), []
    stream = StreamNumbers()
    expected = 0
    for entry in tree.values():
        match entry:
            case PackedFile():
                kind, number = stream.next(entry)
                kinds.append(kind)
                numbers.append(number)
            case BaseFile(number, _, executable):
                kinds.append(_BASE + executable)
                numbers.append((number - expected) & _MASK)
                expected = number + 1
            case Symlink():
                kinds.append(SYMLINK)
            case EmptyDirectory():
                kinds.append(EMPTY_DIRECTORY)
    return kinds, numbers


def _steps(files: Iterable[int]) -> Iterator[int]:
    """Numbers of files as they differ from the one after the last."""
    expected = 0
    for file in files:
        yield (file - expected) & _MASK
        expected = file + 1


def _rest(one: BaseRange, base: Outline) -> int:
    rest = base.sizes[one.file] - one.offset - one.length
    if rest < 0:
        raise ValueError("a range that goes on after its file")
    return rest


# --- reading ----------------------------------------------------------------------------------


def parse_delta_index(frame: bytes, base: Outline, limits: Limits = DEFAULT_LIMITS) -> DeltaTree:
    """Read the index of a delta from this base.

    Raises: InvalidManifest.
    """
    return _parse(frame, base, base.to_bytes(), limits)


def _parse(frame: bytes, base: Outline, outline: bytes, limits: Limits) -> DeltaTree:
    """`outline`: the bytes of that of the base."""
    try:
        size = content_size(frame, WINDOW_LIMIT)
        limit = _size_limit(len(frame), outline, limits)
        if size > limit:
            raise InvalidFrame(f"more than {limit} bytes, decompressed")
        plain = decompress_with(frame, _prefix(outline), size, WINDOW_LIMIT)
    except InvalidFrame as error:
        raise InvalidManifest(str(error), 0) from error
    return _Parser(plain, base, limits).parse()


class _Parser(SectionParser):
    def __init__(self, plain: bytes, base: Outline, limits: Limits) -> None:
        super().__init__(plain, limits)
        self._base = base
        self._entries = 0

    def parse(self) -> DeltaTree:
        parts = self.sections(_SECTIONS)
        writer, kinds, numbers, sizes, stored_sizes, counts, *ranges, paths, targets = parts
        self._entries = len(kinds)
        if self._entries > self._limits.entries:
            self.fail(f"more than {self._limits.entries} entries")
        if unknown := set(kinds) - _KINDS:
            self.fail(f"an entry of unknown kind {min(unknown)}")
        patches = self._patches(
            self.column(sizes), self.column(stored_sizes), self.column(counts), ranges
        )
        end = sum(patch.size for patch in patches)
        # All of them at once: what is wrong with their sum shows behind the last one.
        files = list(self._files(kinds, self.column(numbers), end))
        entries = self.entries(kinds, files, self.paths(paths, len(kinds)), targets)
        if list(entries) != canonical_order(entries, self._limits):
            self.fail("entries that are not in canonical order")
        return DeltaTree(entries, patches, self.writer(writer))

    def _patches(
        self,
        sizes: array[int],
        stored_sizes: array[int],
        counts: array[int],
        columns: Sequence[bytes],
    ) -> list[Patch]:
        if not len(sizes) == len(stored_sizes) == len(counts):
            self.fail("as many stored sizes and counts as patches are wanted")
        if sum(sizes) > self._limits.content_size:
            self.fail(f"patches of more than {self._limits.content_size} bytes together")
        wanted = self._entries + sum(sizes) // _LEAST_BYTES_A_PATCH
        if len(sizes) > min(self._limits.packs, wanted):
            self.fail("more patches than its files need, or than are allowed")
        if sum(counts) > min(_MOST_RANGES, wanted * _RANGES_EACH):
            self.fail("more ranges than its files need, or than are allowed")
        ranges = self._ranges(sum(counts), *map(self.column, columns))
        most_bytes = most_base_bytes(self._base.size, sum(sizes))
        if sum(one.length for one in ranges) > most_bytes:
            self.fail(f"ranges of more than {most_bytes} bytes together")
        patches, at = [], 0
        for size, stored_size, count in zip(sizes, stored_sizes, counts, strict=True):
            patches.append(Patch(size, stored_size, tuple(ranges[at : at + count])))
            self._check_patch(patches[-1])
            at += count
        return patches

    def _ranges(
        self, count: int, steps: array[int], offsets: array[int], rests: array[int]
    ) -> list[BaseRange]:
        if not count == len(steps) == len(offsets) == len(rests):
            self.fail("as many numbers as ranges are wanted")
        ranges, expected = [], 0
        for step, offset, rest in zip(steps, offsets, rests, strict=True):
            file = self._base_file((expected + step) & _MASK)
            length = self._base.sizes[file] - offset - rest
            if length < 1:
                self.fail("a range that is empty, or goes on after its file")
            ranges.append(BaseRange(file, offset, length))
            expected = file + 1
        return ranges

    def _check_patch(self, patch: Patch) -> None:
        if not 1 <= patch.stored_size <= patch.size <= MAX_PATCH_SIZE:
            self.fail(f"a patch of {patch.size} bytes that is stored in {patch.stored_size}")
        if patch.size > patch.stored_size * self._limits.pack_ratio:
            self.fail(f"a patch of more than {self._limits.pack_ratio} times what is stored")
        if patch.stored_size == patch.size and patch.ranges:
            self.fail("a patch that is not compressed and has ranges")
        if sum(one.length for one in patch.ranges) > MAX_PREFIX_SIZE:
            self.fail(f"a patch with ranges of more than {MAX_PREFIX_SIZE} bytes")

    def _base_file(self, number: int) -> int:
        if number >= len(self._base.files):
            self.fail("a file that the base does not have")
        return number

    def _files(
        self, kinds: bytes, numbers: array[int], end: int
    ) -> Iterator[PackedFile | BaseFile]:
        """Read where the files are, in the order of their entries."""
        wanted = [kind for kind in kinds if kind in _NUMBERED]
        if len(wanted) != len(numbers):
            self.fail("as many numbers as files are wanted")
        own: list[PackedFile] = []
        position = expected = total = 0
        file: PackedFile | BaseFile
        for kind, number in zip(wanted, numbers, strict=True):
            executable = bool(kind & 1)
            if kind in _STREAM:
                if number > end - position:
                    self.fail("files that are larger than the patches")
                file = PackedFile(position if number else 0, number, executable)
                position += number
                own.append(file)
            elif kind in _REPEATED:
                if number >= len(own):
                    self.fail("a file that is said to equal one that does not come before it")
                file = PackedFile(own[number].offset, own[number].size, executable)
            else:
                place = self._base_file((expected + number) & _MASK)
                file = BaseFile(place, self._base.sizes[place], executable)
                expected = place + 1
            total += file.size
            if total > self._limits.content_size:
                self.fail(f"files of more than {self._limits.content_size} bytes together")
            yield file
        if position != end:
            self.fail("files that are smaller than the patches")
