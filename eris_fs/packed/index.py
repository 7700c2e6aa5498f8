"""The index of a packed tree: tree to bytes and back, without I/O.

Sections of plain bytes in one Zstandard frame in one item of CBOR. Reading takes the whole index,
as it is compressed as a whole; every length is checked against what is there, and every stated size
against its limit, before anything is made of it. Paths and targets keep the rules of
`eris_fs.paths`, but may be any bytes.

Source: `docs/formats.md`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from sys import byteorder
from typing import Final, NoReturn

from cbor2 import dumps

from eris.errors import InvalidCapability
from eris.model import CAPABILITY_SIZE, BlockSize
from eris_fs.errors import InvalidManifest, TreeTooLarge, UnsafePath
from eris_fs.manifest import MAGIC
from eris_fs.model import (
    DEFAULT_LIMITS,
    EmptyDirectory,
    Entry,
    Limits,
    Pack,
    PackedFile,
    PackedTree,
    Path,
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
from eris_fs.paths import check_path, check_target, name_fault, order_paths, raw_text

__all__ = ["HEADER", "PackedIndexReader", "format_index", "looks_packed", "parse_sections"]

HEADER: Final = MAGIC + dumps("kapla-packed-1")
"""How every index begins, up to its string of bytes."""

_SECTIONS: Final = 8
_LENGTH_SIZE: Final = 8
_WRITER_SIZE: Final = 255
_WINDOW_LIMIT: Final = 128 * 1024 * 1024
# So large an index may be whatever its ratio: that of a huge empty file says the same many times.
_HARMLESS: Final = 16 * 1024 * 1024

_FILE, _EXECUTABLE, _SYMLINK, _EMPTY_DIRECTORY, _SAME, _SAME_EXECUTABLE = range(6)
_NUMBERED: Final = (_FILE, _EXECUTABLE, _SAME, _SAME_EXECUTABLE)


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
        _format_column([pack.size for pack in tree.packs]),
        _format_column([pack.stored_size for pack in tree.packs]),
        b"".join(pack.capabilities for pack in tree.packs),
        bytes(kinds),
        _format_column(numbers),
        bytes(paths),
        bytes(targets),
    )
    plain = b"".join(len(part).to_bytes(_LENGTH_SIZE, "little") + part for part in sections)
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
    places: dict[tuple[int, int], int] = {}
    count = position = 0
    for path, entry in tree.items():
        match entry:
            case PackedFile(offset, size, executable):
                before = places.get((offset, size)) if size else None
                if before is not None:
                    kinds.append(_SAME + executable)
                    numbers.append(before)
                    continue
                if size and offset != position:
                    raise ValueError("files do not come in the order of the stream")
                places[offset, size] = count
                kinds.append(_FILE + executable)
                numbers.append(size)
                position += size
                count += 1
            case Symlink():
                kinds.append(_SYMLINK)
            case EmptyDirectory():
                kinds.append(_EMPTY_DIRECTORY)
            case RegularFile():
                raise ValueError(f"{path} is not in a pack")
    if position != sum(pack.size for pack in tree.packs):
        raise ValueError("files and packs are not of the same size")
    return kinds, numbers


def _format_column(numbers: Sequence[int]) -> bytes:
    plain = array("Q", numbers)
    if byteorder == "big":
        plain.byteswap()
    rows = plain.tobytes()
    return b"".join(rows[place::8] for place in range(8))


def _parse_column(data: bytes) -> array[int]:
    """Read the numbers of a column, whose length is a multiple of 8."""
    count = len(data) // 8
    rows = bytearray(len(data))
    for place in range(8):
        rows[place::8] = data[place * count : (place + 1) * count]
    numbers = array("Q", bytes(rows))
    if byteorder == "big":
        numbers.byteswap()
    return numbers


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
        if len(found) <= len(HEADER):
            return
        info = found[len(HEADER)] - 0x40
        width = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
        if not 0 <= info < 24 and not width:
            raise InvalidManifest("no string of bytes follows the version", len(HEADER))
        start = len(HEADER) + 1 + width
        if len(found) < start:
            return
        length = int.from_bytes(found[len(HEADER) + 1 : start], "big") if width else info
        if len(dumps(length)) != width + 1:
            raise InvalidManifest("a length that is not in its shortest form", len(HEADER))
        if length > self._limits.index_size:
            raise InvalidManifest(f"more than {self._limits.index_size} bytes", len(HEADER))
        self._start, self._end = start, start + length


def parse_sections(plain: bytes, limits: Limits = DEFAULT_LIMITS) -> PackedTree:
    """Read what is in the frame of an index.

    Raises: InvalidManifest; its offset is within `plain`.
    """
    return _Parser(plain, limits).parse()


class _Parser:
    def __init__(self, plain: bytes, limits: Limits) -> None:
        self._plain = plain
        self._limits = limits
        self._at = 0
        # Components repeat, directories above all: each is checked, and kept, once.
        self._names: dict[str, str] = {}

    def parse(self) -> PackedTree:
        sections = []
        for _ in range(_SECTIONS):
            head = self._take(_LENGTH_SIZE)
            sections.append(self._take(int.from_bytes(head, "little")))
        if self._at != len(self._plain):
            self._fail("something follows its sections")
        writer, sizes, stored_sizes, capabilities, kinds, numbers, paths, targets = sections
        columns = self._column(sizes), self._column(stored_sizes)
        self._check_pack_count(columns[0], len(kinds))
        packs = self._packs(*columns, capabilities)
        files = self._files(kinds, self._column(numbers), packs)
        entries = self._entries(kinds, files, self._paths(paths, len(kinds)), targets)
        return PackedTree(entries, packs, self._writer(writer))

    def _take(self, size: int) -> bytes:
        if size > len(self._plain) - self._at:
            self._fail("a section that is longer than the index")
        self._at += size
        return self._plain[self._at - size : self._at]

    def _column(self, data: bytes) -> array[int]:
        if len(data) % 8:
            self._fail("a column that is no multiple of 8 bytes")
        return _parse_column(data)

    def _writer(self, data: bytes) -> str:
        try:
            writer = data.decode()
        except UnicodeDecodeError:
            self._fail("a writer that is not UTF-8")
        if len(data) > _WRITER_SIZE or not writer.isprintable():
            self._fail(f"a writer that is not printable, or of more than {_WRITER_SIZE} bytes")
        return writer

    def _check_pack_count(self, sizes: array[int], entries: int) -> None:
        if len(sizes) > min(self._limits.packs, entries + sum(sizes) // LEAST_BYTES_A_PACK):
            self._fail("more packs than its files need, or than are allowed")

    def _packs(self, sizes: array[int], stored_sizes: array[int], data: bytes) -> list[Pack]:
        if len(sizes) != len(stored_sizes):
            self._fail("as many stored sizes as packs are wanted")
        packs = []
        offset = at = 0
        for size, stored_size in zip(sizes, stored_sizes, strict=True):
            if not 1 <= stored_size <= size <= MAX_PACK_SIZE:
                self._fail(f"a pack of {size} bytes that is stored in {stored_size}")
            if size > stored_size * self._limits.pack_ratio:
                self._fail(f"a pack of more than {self._limits.pack_ratio} times what is stored")
            end = at + piece_count(stored_size) * CAPABILITY_SIZE
            if end > len(data):
                self._fail("too few capabilities")
            packs.append(Pack(offset, size, stored_size, data[at:end]))
            self._check_pieces(packs[-1])
            offset, at = offset + size, end
        if at != len(data):
            self._fail("too many capabilities")
        return packs

    def _check_pieces(self, pack: Pack) -> None:
        try:
            pieces = list(pack.pieces())
        except InvalidCapability as error:
            self._fail(str(error))
        for piece, length in zip(pieces, piece_lengths(pack.stored_size), strict=True):
            whole = length == PIECE_SIZE
            if whole and piece.block_size is not BlockSize.LARGE:
                self._fail("a whole piece that has small blocks")
            if piece.level != root_level(length, piece.block_size):
                self._fail("a piece whose level does not fit its length")

    def _files(self, kinds: bytes, numbers: array[int], packs: list[Pack]) -> list[PackedFile]:
        """Read the places of the files, in the order of their entries."""
        if len(kinds) > self._limits.entries:
            self._fail(f"more than {self._limits.entries} entries")
        wanted = [kind for kind in kinds if kind in _NUMBERED]
        if len(wanted) != len(numbers):
            self._fail("as many numbers as files are wanted")
        end = packs[-1].offset + packs[-1].size if packs else 0
        files: list[PackedFile] = []
        own: list[PackedFile] = []
        position = total = 0
        for kind, number in zip(wanted, numbers, strict=True):
            if kind in (_FILE, _EXECUTABLE):
                if number > end - position:
                    self._fail("files that are larger than the packs")
                file = PackedFile(position if number else 0, number, kind == _EXECUTABLE)
                position += number
                own.append(file)
            else:
                if number >= len(own):
                    self._fail("a file that is said to equal one that does not come before it")
                file = PackedFile(own[number].offset, own[number].size, kind == _SAME_EXECUTABLE)
            files.append(file)
            total += file.size
        if position != end:
            self._fail("files that are smaller than the packs")
        if total > self._limits.content_size:
            self._fail(f"files of more than {self._limits.content_size} bytes together")
        return files

    def _paths(self, data: bytes, count: int) -> Iterator[Path]:
        if data.count(b"\0") != count or (data and not data.endswith(b"\0")):
            self._fail("as many paths as entries are wanted")
        return map(self._path, data.split(b"\0")[:-1])

    def _path(self, raw: bytes) -> Path:
        if not raw:
            return ()
        if len(raw) > self._limits.path_size or raw.count(b"/") >= self._limits.depth:
            self._fail(
                f"a path of more than {self._limits.path_size} bytes, or too many components"
            )
        return tuple(map(self._name, raw.decode("utf-8", "surrogateescape").split("/")))

    def _name(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            if fault := name_fault(name, self._limits, any_bytes=True):
                self._fail(fault)
            known = self._names[name] = name
        return known

    def _entries(
        self, kinds: bytes, files: list[PackedFile], paths: Iterator[Path], targets: bytes
    ) -> dict[Path, Entry]:
        if targets.count(b"\0") != kinds.count(_SYMLINK) or (targets and targets[-1]):
            self._fail("as many targets as symlinks are wanted")
        next_file, next_target = iter(files), iter(targets.split(b"\0"))
        ordered: list[Path] = []
        entries: dict[Path, Entry] = {}
        empty = EmptyDirectory()
        try:
            for kind, path in zip(kinds, paths, strict=True):
                ordered.append(path)
                if kind in _NUMBERED:
                    entries[path] = next(next_file)
                elif kind == _SYMLINK:
                    target = next(next_target).decode("utf-8", "surrogateescape")
                    check_target(path, target, self._limits, any_bytes=True)
                    entries[path] = Symlink(target)
                elif kind == _EMPTY_DIRECTORY:
                    entries[path] = empty
                else:
                    self._fail(f"an entry of unknown kind {kind}")
            order_paths(ordered, self._limits)
        except (UnsafePath, TreeTooLarge) as error:
            raise InvalidManifest(str(error), self._at) from error
        return entries

    def _fail(self, reason: str) -> NoReturn:
        raise InvalidManifest(reason, self._at)
