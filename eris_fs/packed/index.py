"""The index of a packed tree: tree to bytes and back, without I/O.

Sections of plain bytes in one Zstandard frame in one item of CBOR. Reading takes the whole index,
as it is compressed as a whole; every length is checked against what is there, and every stated size
against its limit, before anything is made of it. Paths and targets keep the rules of
`eris_fs.paths`, but may be any bytes.

Source: `docs/formats.md`.
"""

from __future__ import annotations

from array import array
from typing import Final

from cbor2 import dumps

from eris.errors import InvalidCapability
from eris.model import CAPABILITY_SIZE, BlockSize
from eris_fs.errors import InvalidManifest, TreeTooLarge
from eris_fs.manifest import MAGIC
from eris_fs.model import (
    DEFAULT_LIMITS,
    EmptyDirectory,
    Limits,
    Pack,
    PackedFile,
    PackedTree,
    RegularFile,
    Symlink,
)
from eris_fs.packed.cost import (
    LEAST_BYTES_A_PACK,
    MAX_PACK_SIZE,
    PIECE_SIZE,
    piece_count,
    piece_lengths,
    root_level,
)
from eris_fs.packed.frame import InvalidFrame, compress, content_size, decompress
from eris_fs.paths import check_path, check_target, order_paths, raw_text
from eris_fs.sections import (
    EMPTY_DIRECTORY,
    FILE,
    SAME,
    SYMLINK,
    SectionParser,
    StreamNumbers,
    format_column,
    format_sections,
    read_string_head,
)

__all__ = ["HEADER", "PackedIndexReader", "format_index", "looks_packed", "parse_sections"]

HEADER: Final = MAGIC + dumps("kapla-packed-1")
"""How every index begins, up to its string of bytes."""

_SECTIONS: Final = 8
_WINDOW_LIMIT: Final = 128 * 1024 * 1024
# So large an index may be whatever its ratio: that of a huge empty file says the same many times.
_HARMLESS: Final = 16 * 1024 * 1024

_FILE, _EXECUTABLE, _SAME, _SAME_EXECUTABLE = FILE, FILE + 1, SAME, SAME + 1
_NUMBERED: Final = (_FILE, _EXECUTABLE, _SAME, _SAME_EXECUTABLE)
_KINDS: Final = frozenset((*_NUMBERED, SYMLINK, EMPTY_DIRECTORY))


def looks_packed(head: bytes) -> bool:
    """Tell from the first bytes of a content, at least 7, whether it claims to be a packed tree.

    A text where ERIS-FS 1 has its version number: which text, is for the reader to check.
    """
    return head.startswith(HEADER[: len(MAGIC) + 1])


def format_index(tree: PackedTree, limits: Limits = DEFAULT_LIMITS, level: int = 19) -> bytes:
    """Write the index of a packed tree, its entries in the order of the mapping.

    Files must come in the order of the stream, those of equal content after the first of them.
    Raises: UnsafePath, if an entry cannot be in a tree; TreeTooLarge; ValueError, if files and
    packs do not agree.
    """
    order_paths(tree, limits)
    if len(tree.packs) > limits.packs:
        raise TreeTooLarge("packs", limits.packs)
    kinds, numbers = _format_kinds(tree)
    paths, targets = bytearray(), bytearray()
    for path, entry in tree.items():
        check_path(path, limits, any_bytes=True)
        paths += raw_text("/".join(path)) + b"\0"
        if isinstance(entry, Symlink):
            check_target(path, entry.target, limits, any_bytes=True)
            targets += raw_text(entry.target) + b"\0"
    sections = (
        tree.writer.encode(),
        format_column([pack.size for pack in tree.packs]),
        format_column([pack.stored_size for pack in tree.packs]),
        b"".join(pack.capabilities for pack in tree.packs),
        bytes(kinds),
        format_column(numbers),
        bytes(paths),
        bytes(targets),
    )
    plain = format_sections(sections)
    files = (entry for entry in tree.values() if isinstance(entry, PackedFile))
    if sum(file.size for file in files) > limits.content_size:
        raise TreeTooLarge("bytes of files", limits.content_size)
    frame = compress(plain, level)
    limit = _size_limit(len(frame), limits)
    if len(plain) > limit:
        raise TreeTooLarge("bytes of index", limit)
    return HEADER + dumps(frame)


def _size_limit(compressed: int, limits: Limits) -> int:
    """How large an index may be that is compressed to so many bytes."""
    return min(limits.index_size, max(limits.index_ratio * compressed, _HARMLESS))


def _format_kinds(tree: PackedTree) -> tuple[bytearray, list[int]]:
    kinds, numbers = bytearray(), []
    stream = StreamNumbers()
    for path, entry in tree.items():
        match entry:
            case PackedFile():
                kind, number = stream.next(entry)
                kinds.append(kind)
                numbers.append(number)
            case Symlink():
                kinds.append(SYMLINK)
            case EmptyDirectory():
                kinds.append(EMPTY_DIRECTORY)
            case RegularFile():
                raise ValueError(f"{path} is not in a pack")
    if stream.position != sum(pack.size for pack in tree.packs):
        raise ValueError("files and packs are not of the same size")
    return kinds, numbers


class PackedIndexReader:
    """Read an index that comes in pieces: `feed` each, then `finish` gives the tree.

    It keeps what is compressed, and refuses more of it than is announced or allowed.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._data = bytearray()
        self._end: int | None = None
        self._start = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes, any number.

        Raises: InvalidManifest.
        """
        self._data += data
        if self._end is None:
            self._read_header()
        if self._end is not None and len(self._data) > self._end:
            raise InvalidManifest("something follows its end", self._end)

    def finish(self) -> PackedTree:
        """Make the tree of it; takes seconds for a million entries.

        Raises: InvalidManifest.
        """
        if self._end != len(self._data):
            raise InvalidManifest("it ends too early", len(self._data))
        frame = bytes(memoryview(self._data)[self._start :])
        try:
            size = content_size(frame, _WINDOW_LIMIT)
            limit = _size_limit(len(frame), self._limits)
            if size > limit:
                raise InvalidFrame(f"more than {limit} bytes, decompressed")
            plain = decompress(frame, size, _WINDOW_LIMIT)
        except InvalidFrame as error:
            raise InvalidManifest(str(error), self._start) from error
        return parse_sections(plain, self._limits)

    def _read_header(self) -> None:
        found = bytes(self._data[: len(HEADER) + 9])
        if not found.startswith(HEADER[: len(found)]):
            raise InvalidManifest("a version that is not supported", len(MAGIC))
        head = read_string_head(found, len(HEADER), self._limits.index_size)
        if head is not None:
            self._start, self._end = head


def parse_sections(plain: bytes, limits: Limits = DEFAULT_LIMITS) -> PackedTree:
    """Read what is in the frame of an index.

    Raises: InvalidManifest; its offset is within `plain`.
    """
    return _Parser(plain, limits).parse()


class _Parser(SectionParser):
    def parse(self) -> PackedTree:
        sections = self.sections(_SECTIONS)
        writer, sizes, stored_sizes, capabilities, kinds, numbers, paths, targets = sections
        columns = self.column(sizes), self.column(stored_sizes)
        self._check_pack_count(columns[0], len(kinds))
        packs = self._packs(*columns, capabilities)
        if unknown := set(kinds) - _KINDS:
            self.fail(f"an entry of unknown kind {min(unknown)}")
        files = self._files(kinds, self.column(numbers), packs)
        entries = self.entries(kinds, files, self.paths(paths, len(kinds)), targets)
        return PackedTree(entries, packs, self.writer(writer))

    def _check_pack_count(self, sizes: array[int], entries: int) -> None:
        if len(sizes) > min(self._limits.packs, entries + sum(sizes) // LEAST_BYTES_A_PACK):
            self.fail("more packs than its files need, or than are allowed")

    def _packs(self, sizes: array[int], stored_sizes: array[int], data: bytes) -> list[Pack]:
        if len(sizes) != len(stored_sizes):
            self.fail("as many stored sizes as packs are wanted")
        packs = []
        offset = at = 0
        for size, stored_size in zip(sizes, stored_sizes, strict=True):
            if not 1 <= stored_size <= size <= MAX_PACK_SIZE:
                self.fail(f"a pack of {size} bytes that is stored in {stored_size}")
            if size > stored_size * self._limits.pack_ratio:
                self.fail(f"a pack of more than {self._limits.pack_ratio} times what is stored")
            end = at + piece_count(stored_size) * CAPABILITY_SIZE
            if end > len(data):
                self.fail("too few capabilities")
            packs.append(Pack(offset, size, stored_size, data[at:end]))
            self._check_pieces(packs[-1])
            offset, at = offset + size, end
        if at != len(data):
            self.fail("too many capabilities")
        return packs

    def _check_pieces(self, pack: Pack) -> None:
        try:
            pieces = list(pack.pieces())
        except InvalidCapability as error:
            self.fail(str(error))
        for piece, length in zip(pieces, piece_lengths(pack.stored_size), strict=True):
            whole = length == PIECE_SIZE
            if whole and piece.block_size is not BlockSize.LARGE:
                self.fail("a whole piece that has small blocks")
            if piece.level != root_level(length, piece.block_size):
                self.fail("a piece whose level does not fit its length")

    def _files(self, kinds: bytes, numbers: array[int], packs: list[Pack]) -> list[PackedFile]:
        """Read the places of the files, in the order of their entries."""
        if len(kinds) > self._limits.entries:
            self.fail(f"more than {self._limits.entries} entries")
        wanted = [kind for kind in kinds if kind in _NUMBERED]
        if len(wanted) != len(numbers):
            self.fail("as many numbers as files are wanted")
        end = packs[-1].offset + packs[-1].size if packs else 0
        files: list[PackedFile] = []
        own: list[PackedFile] = []
        position = total = 0
        for kind, number in zip(wanted, numbers, strict=True):
            if kind in (_FILE, _EXECUTABLE):
                if number > end - position:
                    self.fail("files that are larger than the packs")
                file = PackedFile(position if number else 0, number, kind == _EXECUTABLE)
                position += number
                own.append(file)
            else:
                if number >= len(own):
                    self.fail("a file that is said to equal one that does not come before it")
                file = PackedFile(own[number].offset, own[number].size, kind == _SAME_EXECUTABLE)
            files.append(file)
            total += file.size
        if position != end:
            self.fail("files that are smaller than the packs")
        if total > self._limits.content_size:
            self.fail(f"files of more than {self._limits.content_size} bytes together")
        return files
