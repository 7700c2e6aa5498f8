"""A tree of `raw` in memory, as a base; and deltas applied to one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from eris import MemoryStore, put_content
from eris_fs.delta.apply import open_delta
from eris_fs.delta.model import BaseRange
from eris_fs.model import DEFAULT_LIMITS, EmptyDirectory, Limits, Path, Symlink
from eris_fs.outline import Outline, OutlineEntry, OutlineFile
from tests.eris_fs.delta import raw
from tests.eris_fs.delta.raw import Link, Tree
from tests.eris_fs.delta.stranger import Entry


class MemoryFiles:
    """Files by their bytes; counts those that were read."""

    def __init__(self, tree: Tree) -> None:
        self.outline = Outline({path_of(path): _entry(path, one) for path, one in tree.items()})
        self._contents = list(raw.files(tree).values())
        self.read_bytes = 0

    async def read(self, ranges: Sequence[BaseRange]) -> bytes:
        for one in ranges:
            assert 0 <= one.offset < one.offset + one.length <= len(self._contents[one.file])
        found = b"".join(
            self._contents[one.file][one.offset : one.offset + one.length] for one in ranges
        )
        assert len(found) <= 64 << 20
        self.read_bytes += len(found)
        return found


async def apply(
    content: bytes, base: MemoryFiles, *, limits: Limits = DEFAULT_LIMITS
) -> dict[bytes, Entry]:
    """Apply a delta, as the stranger does."""
    store = MemoryStore()
    capability = await put_content(store, content)
    async with open_delta(store, capability, base, limits=limits) as delta:
        contents: dict[Path, list[bytes]] = {}
        async with aclosing(delta.files()) as files:
            async for path, piece, _ in files:
                contents.setdefault(path, []).append(piece)
        assert list(contents) == list(delta.outline.files)
        made: dict[bytes, Entry] = {}
        for path, entry in delta.outline.items():
            name = "/".join(path).encode("utf-8", "surrogateescape")
            if isinstance(entry, OutlineFile):
                made[name] = "fx"[entry.executable], b"".join(contents[path])
                assert len(made[name][1]) == entry.size
            elif isinstance(entry, Symlink):
                made[name] = "l", entry.target.encode("utf-8", "surrogateescape")
            else:
                made[name] = "d", b""
        return made


def told(tree: Tree) -> dict[bytes, Entry]:
    """A tree as the stranger tells it."""
    return {raw.name(path): _told(path, tree[path]) for path in raw.in_order(tree)}


def path_of(path: str) -> Path:
    """The components of a path of `raw`."""
    text = path.removesuffix("*")
    return tuple(text.split("/")) if text else ()


def _entry(path: str, one: bytes | Link | None) -> OutlineEntry:
    if isinstance(one, Link):
        return Symlink(str(one))
    return EmptyDirectory() if one is None else OutlineFile(len(one), path.endswith("*"))


def _told(path: str, one: bytes | Link | None) -> Entry:
    if isinstance(one, Link):
        return "l", one.encode("utf-8", "surrogateescape")
    return ("d", b"") if one is None else ("fx"[path.endswith("*")], one)
