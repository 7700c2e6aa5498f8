"""The index: which blocks can be made again out of which files. On disk, resumable at any moment.

What is new is gathered in memory and written as a segment, some megabytes or seconds at a time.
Several of about one size become one, so that there are few to look into, and every record is
written again three times or so in all. What counts is what the file `segments` names: it is
replaced in one step, and whatever else lies there, as a process left it that was killed, goes at
the next start. A segment that is damaged goes, too, and its trees are listed anew.

One thread writes; any number may look up meanwhile: they see the index as it was when they began.

    DIR/lock       held by the process that keeps the index
    DIR/segments   a line "kapla seed index 1", the number of the next part, then names of segments
    DIR/N.seg      the segments
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

from guix_glue.local.files import read_file, replace_file
from guix_glue.seed import records
from guix_glue.seed.errors import DamagedIndex, IndexInUse, IndexNotWritten, SeedError
from guix_glue.seed.packs import PackedPart
from guix_glue.seed.parts import Part
from guix_glue.seed.segment import NewPart, Row, Segment, copied_parts, write_segment
from guix_glue.seed.tiers import choose

__all__ = ["Held", "SeedIndex", "View"]

_log = logging.getLogger(__name__)

_FIRST_LINE: Final = "kapla seed index 1"
_LONGEST_LIST: Final = 1024 * 1024
# What is gathered before it is written: records, and bytes of parts.
_GATHERED_RECORDS: Final = 262_144
_GATHERED_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Held:
    """A part, and the segment that it is in."""

    segment: Segment
    row: Row

    def read(self) -> Part:
        """The part itself. Raises: DamagedIndex."""
        return self.segment.part(self.row)

    def read_packed(self) -> PackedPart:
        """The same of a packed tree. Raises: DamagedIndex."""
        return self.segment.packed(self.row)

    def pairs(self) -> memoryview:
        """The pairs in the nodes of its large files."""
        return self.segment.pairs(self.row)


@dataclass(frozen=True, slots=True)
class View:
    """The index at one moment: a value."""

    segments: tuple[Segment, ...] = ()
    parts: Mapping[int, Held] = field(default_factory=dict)
    roots: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The parts of each tree, in the order of their numbers."""
    closed: Mapping[str, int] = field(default_factory=dict)
    """The part that closes it, of each tree that is whole."""
    packed: Mapping[str, int] = field(default_factory=dict)
    """The packed tree, of each root that has one; its parts are not among those above."""

    @classmethod
    def of(cls, segments: Sequence[Segment], gone: Container[int]) -> View:
        """What these segments have, without parts that are gone."""
        parts = {
            number: Held(segment, row)
            for segment in segments
            for number, row in segment.rows.items()
            if number not in gone
        }
        roots: dict[str, list[int]] = {}
        closed, packed = {}, {}
        for number in sorted(parts):
            row = parts[number].row
            if row.is_packed:
                packed[row.root] = number
                continue
            roots.setdefault(row.root, []).append(number)
            if row.members is not None and all(one in parts for one in row.members):
                closed[row.root] = number
        return cls(
            tuple(segments),
            parts,
            {root: tuple(one) for root, one in roots.items()},
            closed,
            packed,
        )

    def find(self, reference: bytes) -> Iterator[tuple[Held, int]]:
        """Where a block may be made: a part, and the number of the block in it."""
        for segment in self.segments:
            for part, number in records.find(segment.records, reference):
                held = self.parts.get(part)
                if held is not None:
                    yield held, number

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self.segments)

    @property
    def blocks(self) -> int:
        """How many records there are."""
        return sum(segment.count for segment in self.segments)


class SeedIndex:
    """The index in a directory, which is made if it is not there. `close()` it.

    Raises: IndexInUse, SeedError.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(directory)
        except OSError as error:
            raise SeedError(f"cannot use the index in {directory}: {error.strerror}") from error
        self._next_part = 0
        self._records: list[bytes] = []
        self._parts: list[NewPart] = []
        self._gathered = 0
        self._gone: set[int] = set()
        self.view = View()
        """The index as it is now."""
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the directory; what is only gathered is lost."""
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            os.close(lock)

    # writing, for one thread

    def new_number(self) -> int:
        """The number of a part that is about to be made. Raises: SeedError."""
        number = self._next_part
        if number >= records.MAX_PARTS:
            raise SeedError(f"the index in {self.directory} has no numbers left: remove it")
        self._next_part += 1
        return number

    def add(self, number: int, part: Part, references: Sequence[bytes], pairs: bytes) -> None:
        """Add a part: `references` of its blocks, in the order of their numbers, b"" for none.

        Raises: IndexNotWritten.
        """
        self._gather(NewPart.make(number, part, pairs), references)

    def add_packed(
        self, number: int, part: PackedPart, files: int, size: int, references: Sequence[bytes]
    ) -> None:
        """The same of a packed tree, of so many files and bytes. Raises: IndexNotWritten."""
        self._gather(NewPart.of_packed(number, part, files, size), references)

    def _gather(self, new: NewPart, references: Sequence[bytes]) -> None:
        number = new.row.number
        self._parts.append(new)
        self._records += (
            records.format_record(reference, number, place)
            for place, reference in enumerate(references)
            if reference
        )
        self._gathered += len(new.body) + len(new.pairs)
        if len(self._records) >= _GATHERED_RECORDS or self._gathered >= _GATHERED_BYTES:
            self.flush()

    @property
    def is_flushed(self) -> bool:
        """Whether all that was added is on disk."""
        return not self._parts

    def flush(self) -> None:
        """Write what was gathered. Raises: IndexNotWritten; then it is still gathered."""
        if not self._parts:
            return
        self._records.sort()
        with _writing():
            path = self._new_path()
            write_segment(path, [b"".join(self._records)], self._parts)
            self._take(path, ())
        self._records, self._parts, self._gathered = [], [], 0

    def drop(self, numbers: Iterable[int]) -> None:
        """These parts are of no use any more: nobody finds them, and they go in time."""
        self._gone.update(numbers)
        self._show(self.view.segments)

    def tidy(self, *, at_rest: bool) -> bool:
        """Make one segment of several, if there are too many; `at_rest`: nothing else is to do.

        Tells whether something was done. Raises: IndexNotWritten.
        """
        segments = self.view.segments
        gone = [len(self._gone.intersection(one.rows)) / max(1, len(one.rows)) for one in segments]
        chosen = choose([one.count for one in segments], gone, at_rest=at_rest)
        if not chosen:
            return False
        old = [segments[place] for place in chosen]
        numbers = [[number for number in one.rows if number not in self._gone] for one in old]
        some_gone = any(len(left) < len(one.rows) for left, one in zip(numbers, old, strict=True))
        rows = records.merge([one.records for one in old], self._is_kept if some_gone else None)
        with _writing():
            path = self._new_path()
            write_segment(path, rows, chain.from_iterable(map(copied_parts, old, numbers)))
            self._take(path, old)
        self._gone.difference_update(number for one in old for number in one.rows)
        return True

    def _is_kept(self, part: int) -> bool:
        return part not in self._gone

    def verify(self) -> None:
        """Read all records once; segments that are damaged go. Raises: IndexNotWritten."""
        for segment in self.view.segments:
            try:
                segment.verify()
            except DamagedIndex as error:
                self.reject(segment, error)

    def reject(self, segment: Segment, error: DamagedIndex) -> None:
        """Do without a segment that is damaged: its trees are listed anew.

        Raises: IndexNotWritten.
        """
        if segment in self.view.segments:
            _log.warning("%s; what it had is made anew", error)
            left = [one for one in self.view.segments if one is not segment]
            with _writing():
                self._replace(left, [segment])

    # segments

    def _new_path(self) -> Path:
        taken = [int(one.path.stem) for one in self.view.segments]
        return self.directory / f"{max(taken, default=0) + 1}.seg"

    def _take(self, path: Path, old: Sequence[Segment]) -> None:
        """Have a segment that was written, in the place of others."""
        try:
            segment = Segment(path)
        except DamagedIndex as error:
            raise OSError(f"{path.name} was not written as it should be: {error}") from error
        self._replace([one for one in self.view.segments if one not in old] + [segment], old)

    def _replace(self, segments: Sequence[Segment], old: Sequence[Segment]) -> None:
        lines = [_FIRST_LINE, str(self._next_part), *(one.path.name for one in segments)]
        replace_file(self.directory / "segments", "\n".join(lines).encode() + b"\n", 0o600)
        self._show(segments)
        for one in old:
            with suppress(OSError):
                one.path.unlink()

    def _show(self, segments: Sequence[Segment]) -> None:
        self.view = View.of(segments, self._gone)

    def _load(self) -> None:
        segments: list[Segment] = []
        for name in self._read_list():
            try:
                segments.append(Segment(self.directory / name))
            except (DamagedIndex, OSError) as error:
                _log.warning("%s; what it had is made anew", error)
        used = [number for one in segments for number in one.rows]
        self._next_part = max(self._next_part, max(used, default=-1) + 1)
        self._show(segments)
        self._remove_others({one.path.name for one in segments})

    def _read_list(self) -> list[str]:
        path = self.directory / "segments"
        try:
            first, number, *names = read_file(path, _LONGEST_LIST).decode().splitlines()
            if first != _FIRST_LINE:
                raise ValueError("another version")
            self._next_part = int(number)
            return [name for name in names if name.endswith(".seg") and name[:-4].isdigit()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            _log.warning("%s cannot be read (%s): the index is made anew", path, error)
            return []

    def _remove_others(self, names: set[str]) -> None:
        for path in self.directory.iterdir():
            left = path.suffix in (".seg", ".new") and path.name not in names
            if left or path.name.startswith(".segments."):
                with suppress(OSError):
                    path.unlink()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise IndexNotWritten(error) from error


def _locked(directory: Path) -> int:
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise IndexInUse(str(directory)) from None
    except OSError:
        os.close(lock)
        raise
    return lock
