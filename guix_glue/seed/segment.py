"""A segment: one file of the index, with sorted records and the parts that they are of.

    head      64 bytes: what it is, how long each piece is, the BLAKE3 of the table
    records   16 bytes each, sorted
    parts     of each its body, compressed, and the pairs in the nodes of its large files
    table     CBOR: a row for each part, the BLAKE3 of the records

It is written once, under another name, and gets its own when it is on disk. What is read of it is
mapped into memory. A body is compared with its hash when it is read, the table when the segment is
opened, the records by `verify`, which takes as long as reading them; a record or pair that is wrong
makes a block that is not the right one, which is noticed then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO, Final

from blake3 import blake3
from cbor2 import CBORDecodeError, dumps, loads

from guix_glue.seed import records
from guix_glue.seed.errors import DamagedIndex
from guix_glue.seed.packs import PackedPart, format_packed, parse_packed
from guix_glue.seed.parts import Part, format_part, parse_part

__all__ = ["NewPart", "Row", "Segment", "copied_parts", "write_segment"]

_MAGIC: Final = b"kapla seed 1\n\0\0\0"
# Bytes of records and of the table; where the table begins; its hash.
_HEAD: Final = Struct(f">{len(_MAGIC)}sQQ32s")
assert _HEAD.size == 64
_SUM_SIZE: Final = 16
_MAX_TABLE: Final = 1 << 30
# What a body may become when it is decompressed: entries of a part, of some hundred bytes each.
_MAX_BODY: Final = 256 * 1024 * 1024
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of a part: where it is in the file, and how much it stands for."""

    number: int
    root: str
    members: tuple[int, ...] | None
    """Of a part that closes its tree: the others."""
    is_packed: bool
    """Whether it is a packed tree, rather than a part of one whose files are contents."""
    identity: bytes
    """What the tree was."""
    files: int
    size: int
    """Bytes of its files."""
    at: int
    body_size: int
    pairs_size: int
    body_sum: bytes

    @property
    def closes(self) -> bool:
        """Whether it is the last part of its tree."""
        return self.members is not None


@dataclass(frozen=True, slots=True)
class NewPart:
    """A part to be written: its number, itself compressed or not, and the pairs that are kept."""

    row: Row
    body: bytes
    pairs: bytes | memoryview

    @classmethod
    def of_packed(cls, number: int, part: PackedPart, files: int, size: int) -> NewPart:
        """Compress a packed tree: `files` of together `size` bytes."""
        body = _compress(format_packed(part))
        row = Row(
            number,
            part.root,
            None,
            True,
            part.identity,
            files,
            size,
            0,
            len(body),
            0,
            _sum(body),
        )
        return cls(row, body, b"")

    @classmethod
    def make(cls, number: int, part: Part, pairs: bytes) -> NewPart:
        """Compress a part."""
        body = _compress(format_part(part))
        files = [one for one in part.entries if one.is_file]
        row = Row(
            number,
            part.root,
            part.members,
            False,
            part.identity,
            len(files),
            sum(one.size for one in files),
            0,
            len(body),
            len(pairs),
            _sum(body),
        )
        return cls(row, body, pairs)


class Segment:
    """One file of the index, to be read by any thread.

    Raises: DamagedIndex; OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _HEAD.size:
                raise DamagedIndex(f"{path.name} is cut off")
            # Closed when nobody has it any more: threads may be reading.
            self._map = mmap(file.fileno(), 0, access=ACCESS_READ)
        self._view = memoryview(self._map)
        magic, records_size, table_at, table_sum = _HEAD.unpack(self._view[: _HEAD.size])
        end = _HEAD.size + records_size
        if (
            magic != _MAGIC
            or records_size % records.RECORD_SIZE
            or not end <= table_at <= size
            or size - table_at > _MAX_TABLE
        ):
            raise DamagedIndex(f"{path.name} does not begin as it should")
        table = self._view[table_at:]
        if blake3(table).digest() != table_sum:
            raise DamagedIndex(f"the table of {path.name} is damaged")
        self.records = self._view[_HEAD.size : end]
        self._records_sum, self.rows = _parse_table(bytes(table), end, table_at, path.name)

    @property
    def count(self) -> int:
        """How many records it has."""
        return len(self.records) // records.RECORD_SIZE

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self._view)

    def verify(self) -> None:
        """Compare the records with their hash. Raises: DamagedIndex."""
        if blake3(self.records).digest() != self._records_sum:
            raise DamagedIndex(f"the records of {self.path.name} are damaged")

    def part(self, row: Row) -> Part:
        """Read a part. Raises: DamagedIndex."""
        return parse_part(self._read(row))

    def packed(self, row: Row) -> PackedPart:
        """Read a packed tree. Raises: DamagedIndex."""
        return parse_packed(self._read(row))

    def _read(self, row: Row) -> bytes:
        from eris_fs.packed.frame import InvalidFrame, content_size, decompress

        body = self.body(row)
        if _sum(body) != row.body_sum:
            raise DamagedIndex(f"a part in {self.path.name} is damaged")
        try:
            size = content_size(body, _MAX_BODY)
            if size > _MAX_BODY:
                raise DamagedIndex(f"a part in {self.path.name} is too large")
            return decompress(body, size, _MAX_BODY)
        except InvalidFrame as error:
            raise DamagedIndex(f"a part in {self.path.name} cannot be read: {error}") from error

    def body(self, row: Row) -> bytes:
        """The bytes of a part, as they are kept."""
        return bytes(self._view[row.at : row.at + row.body_size])

    def pairs(self, row: Row) -> memoryview:
        """The pairs in the nodes of a part's large files, one file after the other."""
        start = row.at + row.body_size
        return self._view[start : start + row.pairs_size]


def write_segment(path: Path, rows: Iterable[bytes], parts: Iterable[NewPart]) -> None:
    """Write a segment: `rows` are its records in order, in pieces.

    Raises: OSError; then nothing is left behind.
    """
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            _write(file, rows, parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _write(file: BinaryIO, rows: Iterable[bytes], parts: Iterable[NewPart]) -> None:
    file.write(bytes(_HEAD.size))
    state, records_size = blake3(), 0
    for piece in rows:
        file.write(piece)
        state.update(piece)
        records_size += len(piece)
    at = _HEAD.size + records_size
    table: list[Any] = [state.digest()]
    for part in parts:
        row = part.row
        file.write(part.body)
        file.write(part.pairs)
        table.append(
            [
                row.number,
                os.fsencode(row.root),
                None if row.members is None else list(row.members),
                row.is_packed,
                row.identity,
                row.files,
                row.size,
                at,
                row.body_size,
                row.pairs_size,
                row.body_sum,
            ]
        )
        at += row.body_size + row.pairs_size
    data = dumps(table)
    file.write(data)
    file.seek(0)
    file.write(_HEAD.pack(_MAGIC, records_size, at, blake3(data).digest()))


def _parse_table(data: bytes, start: int, end: int, name: str) -> tuple[bytes, dict[int, Row]]:
    """The hash of the records, and the rows by their numbers."""
    rows: dict[int, Row] = {}
    try:
        records_sum, *found = loads(data)
        for number, root, members, *rest in found:
            others = None if members is None else tuple(members)
            row = Row(number, os.fsdecode(root), others, *rest)
            if not start <= row.at <= row.at + row.body_size + row.pairs_size <= end:
                raise ValueError("a part outside of the file")
            rows[number] = row
    except (CBORDecodeError, TypeError, ValueError) as error:
        raise DamagedIndex(f"the table of {name} makes no sense") from error
    return records_sum, rows


def _compress(data: bytes) -> bytes:
    from eris_fs.packed.frame import compress

    return compress(data, _LEVEL)


def _sum(data: bytes) -> bytes:
    return blake3(data).digest(_SUM_SIZE)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copied_parts(segment: Segment, numbers: Iterable[int]) -> Iterator[NewPart]:
    """Parts of a segment, to be written into another."""
    for number in numbers:
        row = segment.rows[number]
        yield NewPart(row, segment.body(row), segment.pairs(row))
