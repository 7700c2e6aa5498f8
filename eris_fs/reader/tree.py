"""`TreeReader`: the files of a tree by path and offset."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from eris.capability import ReadCapability
from eris.sizing import content_sizes
from eris.store import BlockReader
from eris.threads import in_thread
from eris.transfer import read_content
from eris_fs.errors import IsADirectory, IsASymlink, NotADirectory, NotFound
from eris_fs.model import (
    DEFAULT_LIMITS,
    FileEntry,
    Limits,
    PackedFile,
    PackedTree,
    Path,
    RegularFile,
    Symlink,
    Tree,
)
from eris_fs.packed.decode import read_pack
from eris_fs.packed.plan import slices_of
from eris_fs.reader.content import DEFAULT_CACHE_SIZE
from eris_fs.reader.directories import Directories
from eris_fs.reader.info import EntryInfo, Kind
from eris_fs.tree import load_tree

__all__ = ["TreeReader"]


class TreeReader:
    """Read what is in a tree, of either kind, in any order and as many reads at once as one likes.

    ```python
    async with await TreeReader.open(store, capability) as reader:
        for entry in reader.entries("docs"):
            print(entry.name, entry.kind)
        head = await reader.read("docs/guide.txt", 0, 4096)
    ```

    A path is text, `docs/guide.txt` (`""`, `"/"` and `"."` are the tree itself), or its components,
    as trees have them. Symlinks are never followed. Everything that is told of entries is known
    without asking the store, but for the sizes in a tree that is not packed.

    Use it as an asynchronous context, or `aclose()` it: then nothing is left under way. It belongs
    to one event loop. The store stays open, and the tree must not change.
    """

    def __init__(
        self, store: BlockReader, tree: Tree, *, cache_size: int = DEFAULT_CACHE_SIZE
    ) -> None:
        self.tree = tree
        self._store = store
        self._directories = Directories(tree)
        self._sizes: dict[ReadCapability, int] = {}

    @classmethod
    async def open(
        cls,
        store: BlockReader,
        capability: ReadCapability,
        *,
        limits: Limits = DEFAULT_LIMITS,
        cache_size: int = DEFAULT_CACHE_SIZE,
    ) -> Self:
        """Load the index of a tree, and read from it.

        Raises: InvalidManifest, also for content that is no tree; BlockNotFound, ContentError,
        StoreError.
        """
        tree = await load_tree(store, capability, limits=limits)
        reader = cls(store, tree, cache_size=cache_size)
        await in_thread(reader._directories.prepare)
        return reader

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def info(self, path: str | Sequence[str]) -> EntryInfo:
        """Tell what is at a path.

        Raises: NotFound; NotADirectory, if something before its end is a file or a symlink.
        """
        return self._info(_components(path))

    def entries(self, directory: str | Sequence[str]) -> list[EntryInfo]:
        """Tell what is in a directory, sorted by name.

        Raises: NotFound, NotADirectory.
        """
        where = _components(directory)
        self._require_directory(where)
        return [self._info((*where, name)) for name in self._directories.names(where)]

    async def sizes(self, directory: str | Sequence[str]) -> dict[str, int]:
        """Find the sizes of the files in a directory, in bytes by name; and keep them.

        In a packed tree they are known. Else it takes a few round trips for all together, the first
        time; `entries` and `info` then tell them too.
        Raises: NotFound, NotADirectory; BlockNotFound, ContentError, StoreError.
        """
        found_entries = ((one.name, self.tree[one.path]) for one in self.entries(directory))
        files = {name: entry for name, entry in found_entries if isinstance(entry, FileEntry)}
        capabilities = {
            entry.capability for entry in files.values() if isinstance(entry, RegularFile)
        }
        lacking = [one for one in capabilities if one not in self._sizes]
        found = await content_sizes(self._store, lacking)
        self._sizes.update(zip(lacking, found, strict=True))
        sizes = {name: self._known_size(entry) for name, entry in files.items()}
        return {name: size for name, size in sizes.items() if size is not None}

    async def size(self, path: str | Sequence[str]) -> int:
        """Find the size of a file in bytes, and keep it.

        Raises: as `read`.
        """
        entry = self._file(_components(path))
        size = self._known_size(entry)
        if size is None:
            assert isinstance(entry, RegularFile)
            (size,) = await content_sizes(self._store, [entry.capability])
            self._sizes[entry.capability] = size
        return size

    async def read(self, path: str | Sequence[str], offset: int, length: int) -> bytes:
        """Read up to `length` bytes of a file from `offset`; shorter only where the file ends.

        Raises: NotFound, NotADirectory, IsADirectory, IsASymlink; BlockNotFound, ContentError
        (InvalidPack is one), StoreError; ValueError for what is no range.
        """
        entry = self._file(_components(path))
        if offset < 0 or length < 0:
            raise ValueError(f"not a range of bytes: {length} from {offset}")
        if isinstance(entry, RegularFile):
            return await read_content(self._store, entry.capability, offset, length)
        assert isinstance(self.tree, PackedTree)
        start = min(offset, entry.size)
        part = PackedFile(entry.offset + start, min(length, entry.size - start))
        parts = []
        for number, first, stop in slices_of(self.tree.packs, part):
            parts.append((await read_pack(self._store, self.tree, number))[first:stop])
        return b"".join(parts)

    async def aclose(self) -> None:
        """Withdraw what is under way: who waits for it gets `StoreUnavailable`."""

    def _info(self, path: Path) -> EntryInfo:
        entry = self.tree.get(path)
        if isinstance(entry, FileEntry):
            return EntryInfo(path, Kind.FILE, entry.executable, size=self._known_size(entry))
        if isinstance(entry, Symlink):
            return EntryInfo(path, Kind.SYMLINK, target=entry.target)
        self._require_directory(path)
        return EntryInfo(path, Kind.DIRECTORY)

    def _file(self, path: Path) -> FileEntry:
        entry = self.tree.get(path)
        if isinstance(entry, FileEntry):
            return entry
        if isinstance(entry, Symlink):
            raise IsASymlink(path, entry.target)
        self._require_directory(path)
        raise IsADirectory(path)

    def _require_directory(self, path: Path) -> None:
        if path in self._directories:
            return
        for length in range(len(path) + 1):
            if isinstance(self.tree.get(path[:length]), FileEntry | Symlink):
                raise NotADirectory(path[:length])
        raise NotFound(path)

    def _known_size(self, entry: FileEntry) -> int | None:
        if isinstance(entry, PackedFile):
            return entry.size
        return self._sizes.get(entry.capability)


def _components(path: str | Sequence[str]) -> Path:
    if isinstance(path, str):
        return tuple(part for part in path.split("/") if part not in ("", "."))
    return tuple(path)
