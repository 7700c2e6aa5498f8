"""File system to raw packs: scans a tree and gathers its files, some packs at a time.

Each file is read once, but for a very large one of the same size as another, which is first hashed.
Contents that came before are noted and not packed again.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from eris_fs.errors import TreeError
from eris_fs.model import EmptyDirectory, Entry, Limits, Pack, PackedFile, PackedTree, Path, Symlink
from eris_fs.packed.layout import (
    CUT_SIZE,
    SMALL_FILE_LIMIT,
    Sample,
    ends_pack,
    exceeds_pack,
    sample,
    similar,
)
from eris_fs.paths import raw_text
from eris_fs.scan import OpenFile, Root, scan_tree
from eris_fs.selection import EVERYTHING, Selection

__all__ = ["PackReader", "RawPack"]

# What is handed on at once: enough work for a thread, little enough memory.
_STEP = 2 * 1024 * 1024


@dataclass(slots=True)
class _File:
    """A file with content: `key` is the hash of it."""

    path: Path
    executable: bool
    size: int
    key: bytes


@dataclass(frozen=True, slots=True)
class RawPack:
    """The bytes of a pack, and how many files begin in it."""

    content: bytes = field(repr=False)
    files: int


class PackReader:
    """Scan a tree and gather its files into packs."""

    def __init__(self, root: Root, limits: Limits, selection: Selection = EVERYTHING) -> None:
        self._scan = scan_tree(root, limits, any_bytes=True, selection=selection)
        self._selection = selection
        self._packs = self._gather()
        # In the order of the stream, which is that of the packs; and what is not in the stream.
        self._stream: list[_File] = []
        self._others: list[tuple[Path, Entry | _File]] = []
        self._known: set[bytes] = set()
        self._cut_sizes: set[int] = set()
        # Small files waiting for their pack to end, and large ones that are alike.
        self._small = _Gathering()
        self._large = _Gathering()
        self._last_large: Sample | None = None

    def next(self) -> list[RawPack]:
        """Gather the next packs; none at the end.

        Raises: as `scan_tree`; FileChanged.
        """
        packs: list[RawPack] = []
        size = 0
        for pack in self._packs:
            packs.append(pack)
            size += len(pack.content)
            if size >= _STEP:
                break
        return packs

    def tree(self, packs: list[Pack], writer: str) -> PackedTree:
        """Make the tree, when all packs are known."""
        entries: dict[Path, Entry] = {}
        places: dict[bytes, int] = {}
        position = 0
        for file in self._stream:
            entries[file.path] = PackedFile(position, file.size, file.executable)
            places[file.key] = position
            position += file.size
        for path, other in self._others:
            if isinstance(other, _File):
                other = PackedFile(places[other.key], other.size, other.executable)
            entries[path] = other
        return PackedTree(entries, packs, writer)

    def close(self) -> None:
        """Close every directory and file still open."""
        self._packs.close()
        self._scan.close()

    def _gather(self) -> Generator[RawPack, None, None]:
        for path, found in self._scan:
            if isinstance(found, Symlink | EmptyDirectory):
                self._others.append((path, found))
                continue
            with found:
                try:
                    # A very large one is not held: whether it can be read at all shows at once.
                    content = found.read(1) if found.size >= CUT_SIZE else found.read_all()
                except TreeError as error:
                    if not self._selection.skips(error):
                        raise
                    continue
                if found.size == 0:
                    self._others.append((path, PackedFile(0, 0, found.executable)))
                elif found.size >= CUT_SIZE:
                    found.rewind()
                    yield from self._cut(path, found)
                else:
                    yield from self._add(path, found, content)
        yield from self._end(self._large)
        yield from self._end(self._small)

    def _add(self, path: Path, found: OpenFile, content: bytes) -> Iterator[RawPack]:
        file = _File(path, found.executable, found.size, blake3(content).digest())
        if self._is_known(file):
            return
        if found.size < SMALL_FILE_LIMIT:
            yield from self._add_small(file, content)
        else:
            yield from self._add_large(file, content)

    def _add_small(self, file: _File, content: bytes) -> Iterator[RawPack]:
        if exceeds_pack(self._small.size, file.size):
            yield from self._end(self._small)
        self._small.add(file, content)
        if ends_pack(raw_text("/".join(file.path)), file.size, self._small.size):
            yield from self._end(self._small)

    def _add_large(self, file: _File, content: bytes) -> Iterator[RawPack]:
        before = self._last_large
        fits = self._large.size + file.size <= CUT_SIZE
        if before is None or not fits or not similar(before, content):
            yield from self._end(self._large)
        self._large.add(file, content)
        self._last_large = sample(content)

    def _cut(self, path: Path, found: OpenFile) -> Iterator[RawPack]:
        """Make packs of a very large file alone, never holding more than one of them.

        Where it cannot be read any further that is an error: a part of it is packed already.
        """
        yield from self._end(self._large)
        file = _File(path, found.executable, found.size, b"")
        if found.size in self._cut_sizes:
            file.key = _hash(found)
            if self._is_known(file):
                return
            found.rewind()
        self._cut_sizes.add(found.size)
        self._stream.append(file)
        state = blake3()
        beginning = 1
        while content := _read(found, CUT_SIZE):
            state.update(content)
            yield RawPack(content, beginning)
            beginning = 0
        file.key = state.digest()
        self._known.add(file.key)

    def _is_known(self, file: _File) -> bool:
        if file.key in self._known:
            self._others.append((file.path, file))
            return True
        self._known.add(file.key)
        return False

    def _end(self, gathering: _Gathering) -> Iterator[RawPack]:
        if gathering is self._large:
            self._last_large = None
        if gathering.files:
            self._stream += gathering.files
            pack = RawPack(b"".join(gathering.contents), len(gathering.files))
            gathering.clear()
            yield pack


class _Gathering:
    """The files of a pack that is not full."""

    def __init__(self) -> None:
        self.files: list[_File] = []
        self.contents: list[bytes] = []
        self.size = 0

    def add(self, file: _File, content: bytes) -> None:
        self.files.append(file)
        self.contents.append(content)
        self.size += len(content)

    def clear(self) -> None:
        self.files.clear()
        self.contents.clear()
        self.size = 0


def _hash(file: OpenFile) -> bytes:
    state = blake3()
    while content := file.read(CUT_SIZE):
        state.update(content)
    return state.digest()


def _read(file: OpenFile, size: int) -> bytes:
    """Read so many bytes, or what is left."""
    content = file.read(size)
    while content and len(content) < size:
        more = file.read(size - len(content))
        if not more:
            break
        content += more
    return content
