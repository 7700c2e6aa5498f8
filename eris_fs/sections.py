"""What the indexes of packed trees and of deltas are made of: sections, columns, paths; pure.

Every length is checked against what is there, and every stated number against its limit, before
anything is made of it. Paths and targets keep the rules of `eris_fs.paths`, but may be any bytes.

Source: `docs/formats.md`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from sys import byteorder
from typing import Final, NoReturn, TypeVar

from cbor2 import dumps

from eris_fs.errors import InvalidManifest, TreeTooLarge, UnsafePath
from eris_fs.model import EmptyDirectory, Limits, PackedFile, Path, Symlink
from eris_fs.paths import check_target, name_fault, order_paths

_File = TypeVar("_File")

__all__ = [
    "EMPTY_DIRECTORY",
    "FILE",
    "SAME",
    "SYMLINK",
    "SectionParser",
    "StreamNumbers",
    "format_column",
    "format_sections",
    "read_string_head",
]

FILE: Final = 0
"""The kind of a file that is the next range of a stream; one more, if it is executable."""

SAME: Final = 4
"""The kind of a file with the content of one before; one more, if it is executable."""

SYMLINK: Final = 2
"""The kind of an entry that has a target; of the others, those below 2 are files."""

EMPTY_DIRECTORY: Final = 3

_LENGTH_SIZE: Final = 8
_WRITER_SIZE: Final = 255


def format_sections(parts: Iterable[bytes]) -> bytes:
    """Write sections one after the other, each below its length."""
    return b"".join(len(part).to_bytes(_LENGTH_SIZE, "little") + part for part in parts)


def format_column(numbers: Sequence[int]) -> bytes:
    """Write numbers of 64 bits: the lowest bytes of all, then the next ones, to the highest."""
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


def read_string_head(data: bytes, at: int, limit: int) -> tuple[int, int] | None:
    """Read the head of a string of bytes of CBOR at `at`; returns where the string starts and ends.

    None, if more of it must come first.
    Raises: InvalidManifest, for another head, and one that announces more than `limit` bytes.
    """
    if len(data) <= at:
        return None
    info = data[at] - 0x40
    width = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    if not 0 <= info < 24 and not width:
        raise InvalidManifest("no string of bytes follows the version", at)
    start = at + 1 + width
    if len(data) < start:
        return None
    length = int.from_bytes(data[at + 1 : start], "big") if width else info
    if len(dumps(length)) != width + 1:
        raise InvalidManifest("a length that is not in its shortest form", at)
    if length > limit:
        raise InvalidManifest(f"more than {limit} bytes", at)
    return start, start + length


class StreamNumbers:
    """Kinds and numbers of files that are ranges of a stream, in the order of their listing.

    A file is the next range, and its number its size; or it has the content of one before, and
    its number is which of those.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, int], int] = {}
        self._count = 0
        self.position = 0
        """How far the stream is listed, in bytes."""

    def next(self, file: PackedFile) -> tuple[int, int]:
        """The kind and the number of the next file.

        Raises: ValueError, for a range that is neither.
        """
        place = file.offset, file.size
        before = self._places.get(place) if file.size else None
        if before is not None:
            return SAME + file.executable, before
        if file.size and file.offset != self.position:
            raise ValueError("files do not come in the order of the stream")
        self._places[place] = self._count
        self._count += 1
        self.position += file.size
        return FILE + file.executable, file.size


class SectionParser:
    """Reads sections of `plain`. All of it raises InvalidManifest; its offset is within `plain`."""

    def __init__(self, plain: bytes, limits: Limits) -> None:
        self._plain = plain
        self._limits = limits
        self._at = 0
        # Components repeat, directories above all: each is checked, and kept, once.
        self._names: dict[str, str] = {}

    def sections(self, count: int) -> list[bytes]:
        """Read so many sections, which must be all there is."""
        sections = []
        for _ in range(count):
            head = self._take(_LENGTH_SIZE)
            sections.append(self._take(int.from_bytes(head, "little")))
        if self._at != len(self._plain):
            self.fail("something follows its sections")
        return sections

    def column(self, data: bytes) -> array[int]:
        """Read the numbers of a column."""
        if len(data) % 8:
            self.fail("a column that is no multiple of 8 bytes")
        return _parse_column(data)

    def writer(self, data: bytes) -> str:
        """Read the name of what wrote it."""
        try:
            writer = data.decode()
        except UnicodeDecodeError:
            self.fail("a writer that is not UTF-8")
        if len(data) > _WRITER_SIZE or not writer.isprintable():
            self.fail(f"a writer that is not printable, or of more than {_WRITER_SIZE} bytes")
        return writer

    def paths(self, data: bytes, count: int) -> Iterator[Path]:
        """Read as many paths."""
        if count > self._limits.entries:
            self.fail(f"more than {self._limits.entries} entries")
        if data.count(b"\0") != count or (data and not data.endswith(b"\0")):
            self.fail("as many paths as entries are wanted")
        return map(self._path, data.split(b"\0")[:-1])

    def entries(
        self, kinds: bytes, files: Iterable[_File], paths: Iterator[Path], targets: bytes
    ) -> dict[Path, _File | Symlink | EmptyDirectory]:
        """Put entries together; what is no symlink and no empty directory is the next file."""
        if targets.count(b"\0") != kinds.count(SYMLINK) or (targets and targets[-1]):
            self.fail("as many targets as symlinks are wanted")
        next_file, next_target = iter(files), iter(targets.split(b"\0"))
        entries: dict[Path, _File | Symlink | EmptyDirectory] = {}
        ordered: list[Path] = []
        empty = EmptyDirectory()
        try:
            for kind, path in zip(kinds, paths, strict=True):
                ordered.append(path)
                if kind == SYMLINK:
                    target = next(next_target).decode("utf-8", "surrogateescape")
                    check_target(path, target, self._limits, any_bytes=True)
                    entries[path] = Symlink(target)
                else:
                    entries[path] = empty if kind == EMPTY_DIRECTORY else next(next_file)
            order_paths(ordered, self._limits)
        except (UnsafePath, TreeTooLarge) as error:
            raise InvalidManifest(str(error), self._at) from error
        return entries

    def fail(self, reason: str) -> NoReturn:
        """Refuse the index."""
        raise InvalidManifest(reason, self._at)

    def _take(self, size: int) -> bytes:
        if size > len(self._plain) - self._at:
            self.fail("a section that is longer than the index")
        self._at += size
        return self._plain[self._at - size : self._at]

    def _path(self, raw: bytes) -> Path:
        if not raw:
            return ()
        if len(raw) > self._limits.path_size or raw.count(b"/") >= self._limits.depth:
            self.fail(f"a path of more than {self._limits.path_size} bytes, or too many components")
        return tuple(map(self._name, raw.decode("utf-8", "surrogateescape").split("/")))

    def _name(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            if fault := name_fault(name, self._limits, any_bytes=True):
                self.fail(fault)
            known = self._names[name] = name
        return known
