"""Which files of the new tree have the content of one of the base, and what all of them hash to.

A file at the same path and of the same size is compared byte by byte, in ranges, as the new tree
is read. Of what is left, files are looked for that were moved: of the base only those are read for
it, and hashed, which are as large as one of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from eris.threads import in_thread
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.model import BaseRange
from eris_fs.delta.steps import steps
from eris_fs.outline import HASH_SIZE, Outline

__all__ = ["Hashing", "Same", "find_same"]

_EMPTY: Final = blake2b(digest_size=HASH_SIZE).digest()


@dataclass(frozen=True, slots=True)
class Same:
    """What two trees have in common; files are counted from 0, in the order of their tree."""

    digests: Sequence[bytes] = field(repr=False)
    """The Blake2b-256 of each file of the new tree."""
    base: dict[int, int]
    """For files of the new tree that are not empty: the one of the base with that content."""
    again: dict[int, int]
    """For others: the first one of the new tree with that content, which is in neither."""

    def is_new(self, file: int) -> bool:
        """Whether the content of a file of the new tree must come from elsewhere."""
        return file not in self.base and file not in self.again


async def find_same(base: TreeFiles, new: TreeFiles) -> Same:
    """Read all of the new tree, and of the base what may be in it.

    Raises: as `TreeFiles.read`.
    """
    comparing = _Comparing(base.outline, new.outline)
    for step in steps(new.outline.sizes, range(len(new.outline.files))):
        wanted = comparing.wanted(step)
        # One after the other, so that nothing is left running by an error.
        data = await new.read(step)
        other = await base.read(wanted)
        await in_thread(comparing.take, step, data, wanted, other)
    digests, found = comparing.digests(), comparing.same()
    moved = await _find_moved(base, new.outline, digests, found)
    found.update(moved)
    return Same(digests, found, _find_again(new.outline, digests, found))


async def _hash_files(files: TreeFiles, wanted: Sequence[int]) -> dict[int, bytes]:
    """Read files and give the Blake2b-256 of each.

    Raises: as `TreeFiles.read`.
    """
    hashing = Hashing()
    for step in steps(files.outline.sizes, wanted):
        await in_thread(hashing.take, step, await files.read(step))
    return {file: hashing.digest(file) for file in wanted}


class Hashing:
    """Hashes files whose bytes come in order, those of one after those of another."""

    def __init__(self) -> None:
        self._digests: dict[int, bytes] = {}
        self._file = -1
        self._state = blake2b(digest_size=HASH_SIZE)

    def take(self, ranges: Sequence[BaseRange], data: bytes) -> None:
        """Hash the next ranges, whose bytes are given, joined."""
        view, at = memoryview(data), 0
        for one in ranges:
            if one.file != self._file:
                self._end()
                self._file = one.file
            self._state.update(view[at : at + one.length])
            at += one.length

    def digest(self, file: int) -> bytes:
        """The Blake2b-256 of a file, all of whose bytes were taken."""
        self._end()
        return self._digests.get(file, _EMPTY)

    def _end(self) -> None:
        if self._file >= 0:
            self._digests[self._file] = self._state.digest()
            self._file = -1
            self._state = blake2b(digest_size=HASH_SIZE)


class _Comparing:
    """Compares files of the new tree with those at the same path, and hashes them on the way."""

    def __init__(self, base: Outline, new: Outline) -> None:
        numbers = {path: number for number, path in enumerate(base.files)}
        self._hashing = Hashing()
        self._files = len(new.files)
        # Files of the new tree that have not differed so far.
        self._alike: dict[int, int] = {}
        for file, (path, size) in enumerate(zip(new.files, new.sizes, strict=True)):
            number = numbers.get(path)
            if number is not None and size and base.sizes[number] == size:
                self._alike[file] = number

    def wanted(self, step: Sequence[BaseRange]) -> list[BaseRange]:
        """What of the base is compared with ranges of the new tree."""
        return [
            BaseRange(self._alike[one.file], one.offset, one.length)
            for one in step
            if one.file in self._alike
        ]

    def take(
        self,
        step: Sequence[BaseRange],
        data: bytes,
        wanted: Sequence[BaseRange],
        other: bytes,
    ) -> None:
        """Hash what was read and compare it; for a worker thread."""
        self._hashing.take(step, data)
        if len(step) == len(wanted) and data == other:
            return
        at = base_at = 0
        for one in step:
            if one.file in self._alike:
                # Copies: two views are compared one byte after the other, and slowly.
                if data[at : at + one.length] != other[base_at : base_at + one.length]:
                    del self._alike[one.file]
                base_at += one.length
            at += one.length

    def digests(self) -> list[bytes]:
        """The hashes of all files."""
        return [self._hashing.digest(file) for file in range(self._files)]

    def same(self) -> dict[int, int]:
        """Which files are those of the base at the same path."""
        return dict(self._alike)


async def _find_moved(
    base: TreeFiles, new: Outline, digests: Sequence[bytes], found: dict[int, int]
) -> dict[int, int]:
    left = [file for file, size in enumerate(new.sizes) if size and file not in found]
    sizes = {new.sizes[file] for file in left}
    outline = base.outline
    hashed = await _hash_files(
        base, [number for number, size in enumerate(outline.sizes) if size in sizes]
    )
    numbers: dict[bytes, list[int]] = defaultdict(list)
    for number, digest in hashed.items():
        numbers[digest].append(number)
    moved = {}
    for file in left:
        if candidates := numbers.get(digests[file]):
            moved[file] = _nearest(outline, candidates, new.files[file])
    return moved


def _nearest(base: Outline, candidates: Sequence[int], path: tuple[str, ...]) -> int:
    """Of files with the same content take one of the same name, or else the first."""
    for number in candidates:
        if base.files[number][-1:] == path[-1:]:
            return number
    return candidates[0]


def _find_again(new: Outline, digests: Sequence[bytes], found: dict[int, int]) -> dict[int, int]:
    first: dict[bytes, int] = {}
    again = {}
    for file, size in enumerate(new.sizes):
        if size and file not in found:
            earlier = first.setdefault(digests[file], file)
            if earlier != file:
                again[file] = earlier
    return again
