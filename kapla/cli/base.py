"""`--base`: the tree that a delta leads from, a directory here or a tree in the store."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import eris_fs
from eris.capability import URN_PREFIX, ReadCapability
from eris.errors import BlockNotFound
from eris.store import BlockReader
from eris.threads import in_thread
from eris_fs.model import printable
from kapla.cli.content import Kind, kind_of, load_tree
from kapla.cli.named import with_at
from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.urn import read_capability

__all__ = ["Base", "read_base"]


@dataclass(frozen=True, slots=True)
class Base:
    """What was given: the path of a directory or file, or a content."""

    shown: str
    """What to call it."""
    path: str | None
    capability: ReadCapability | None = field(default=None, repr=False)

    @property
    def contents(self) -> tuple[ReadCapability, ...]:
        """What is to be read from a store."""
        return () if self.capability is None else (self.capability,)

    @asynccontextmanager
    async def open(self, store: BlockReader) -> AsyncIterator[eris_fs.TreeFiles]:
        """Look at it, and read it until the end of the context.

        Raises: CommandError, TreeError, OSError; BlockNotFound, ContentError, StoreError.
        """
        if self.path is not None:
            with await _look(self.path) as directory:
                yield directory
            return
        assert self.capability is not None
        tree = await self._load(store, self.capability)
        async with eris_fs.StoredFiles(store, tree) as stored:
            yield stored

    async def _load(self, store: BlockReader, capability: ReadCapability) -> eris_fs.Tree:
        try:
            match await kind_of(store, capability):
                case Kind.TREE:
                    return await load_tree(store, capability)
                case Kind.FILE:
                    return {(): eris_fs.RegularFile(capability)}
                case Kind.DELTA:
                    raise CommandError(
                        "the base is a delta itself: decode that one first, and name what it makes",
                        ExitCode.USAGE,
                    )
        except BlockNotFound as error:
            error.add_note("of the base")
            raise


async def _look(path: str) -> eris_fs.DirectoryFiles:
    try:
        return await in_thread(eris_fs.DirectoryFiles, path)
    except eris_fs.UnsupportedEntry as error:
        raise CommandError(
            f"the base cannot be read: {printable(error.path)}: {error.reason}", ExitCode.FILE
        ) from error


def read_base(text: str) -> Base:
    """Read `--base`: a URN, `@NAME`, `@FILE` or `-`, else the path of a directory or file.

    Raises: CommandError, InvalidCapability, OSError.
    """
    if text.startswith("@"):
        return Base(printable(text), None, read_capability(text))
    if text == "-" or (text.lower().startswith(URN_PREFIX) and not os.path.lexists(text)):
        return Base("what this URN stands for", None, read_capability(text))
    if not os.path.lexists(text):
        named = with_at(text)
        meant = f"; it is a name in the catalogue, which is written {named}" if named else ""
        raise CommandError(
            f"--base: {printable(text)} is no directory and no URN{meant}", ExitCode.FILE
        )
    # A symlink that the user names means what it leads to.
    return Base(printable(text), os.path.realpath(text))
