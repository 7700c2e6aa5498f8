"""`TreeReader`: the files of a tree by path and offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, ContentError
from eris.store import BlockReader
from eris.threads import in_thread
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
    show_path,
)
from eris_fs.reader.caches import DEFAULT_CACHE_SIZE, Caches
from eris_fs.reader.content import Content, check_range
from eris_fs.reader.directories import Directories
from eris_fs.reader.info import EntryInfo, Kind
from eris_fs.reader.lru import LeastRecent
from eris_fs.reader.packs import InPacks
from eris_fs.reader.sizes import Sizes
from eris_fs.reader.spans import Part
from eris_fs.reader.together import Together
from eris_fs.tree import load_tree

__all__ = ["TreeReader"]

# What is remembered of a file that is read, about, and of all such files, in bytes.
_FILE: Final = 768
_FILES: Final = 4 * 1024 * 1024


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

    A file that is read in order has what follows fetched ahead; else only the blocks on the way are
    fetched, and of a compressed pack all of it. The first read of a small file brings those beside
    it. `cache_size` bounds the bytes that are kept, at least 4 MiB. Beside them there is what is
    under way: a quarter of that for nobody yet, and 8 MiB for each read.

    Cancelling a read disturbs no other. What fails is not kept: the next read asks again. Use it as
    an asynchronous context, or `aclose()` it: then nothing is left under way. It belongs to one
    event loop. The store stays open, and the tree must not change.
    """

    def __init__(
        self, store: BlockReader, tree: Tree, *, cache_size: int = DEFAULT_CACHE_SIZE
    ) -> None:
        self.tree = tree
        self._caches = Caches(store, cache_size)
        self._directories = Directories(tree)
        self._together = Together(tree, self._directories)
        self._sizes = Sizes(self._content)
        # How files are read, those read last: what was read is kept elsewhere.
        self._contents: LeastRecent[Content] = LeastRecent(_FILES)
        self._in_packs: LeastRecent[InPacks] = LeastRecent(_FILES)

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
        found = ((one.name, self.tree.get(one.path)) for one in self.entries(directory))
        files = {name: entry for name, entry in found if isinstance(entry, FileEntry)}
        await self._sizes.find_all(
            file.capability for file in files.values() if isinstance(file, RegularFile)
        )
        return {name: await self._find_size(file) for name, file in files.items()}

    async def size(self, path: str | Sequence[str]) -> int:
        """Find the size of a file in bytes, and keep it.

        Raises: as `read`.
        """
        where = _components(path)
        try:
            return await self._find_size(self._file(where))
        except (BlockNotFound, ContentError) as error:
            _name(error, where)
            raise

    async def read(self, path: str | Sequence[str], offset: int, length: int) -> bytes:
        """Read up to `length` bytes of a file from `offset`; shorter only where the file ends.

        Raises: NotFound, NotADirectory, IsADirectory, IsASymlink; BlockNotFound, ContentError
        (InvalidPack is one), StoreError; ValueError for what is no range.
        """
        where = _components(path)
        entry = self._file(where)
        check_range(offset, length)
        try:
            if isinstance(entry, PackedFile):
                return await self._packed(entry).read(offset, length)
            content = self._content(entry.capability)
            beside = self._beside(where) if content.is_small else ()
            return await content.read(offset, length, beside)
        except (BlockNotFound, ContentError) as error:
            _name(error, where)
            raise

    async def aclose(self) -> None:
        """Give up what is under way, and return when it has ended.

        Who waits for it, or reads later, gets StoreUnavailable.
        """
        await self._caches.aclose()

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

    async def _find_size(self, entry: FileEntry) -> int:
        if isinstance(entry, PackedFile):
            return entry.size
        return await self._sizes.find(entry.capability)

    def _content(self, capability: ReadCapability) -> Content:
        key = capability.to_bytes()
        content = self._contents.get(key)
        if content is None:
            content = Content(self._caches, capability)
            self._contents.put(key, content, _FILE)
        return content

    def _packed(self, file: PackedFile) -> InPacks:
        key = file.offset, file.size
        found = self._in_packs.get(key)
        if found is None:
            assert isinstance(self.tree, PackedTree)
            found = InPacks(self._caches, self.tree, file)
            self._in_packs.put(key, found, _FILE)
        return found

    def _beside(self, path: Path) -> Iterator[Part]:
        """What to fetch beside a small file that is read."""
        for beside in self._together.bring(path):
            yield self._content(beside).whole


def _components(path: str | Sequence[str]) -> Path:
    if not isinstance(path, str):
        return tuple(path)
    parts = path.split("/")
    if "" in parts or "." in parts:
        parts = [part for part in parts if part not in ("", ".")]
    return tuple(parts)


def _name(error: BlockNotFound | ContentError, path: Path) -> None:
    """Name the file in what went wrong with its blocks; others may have the same error."""
    note = f"while reading {show_path(path)}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
