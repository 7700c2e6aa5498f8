"""The delta that `kapla encode --base` makes beside a packed tree.

It is stored, pinned and noted as the tree is.

The tree is stored, noted and told of before: whatever becomes of the delta, that is done. What the
delta leads to is read back out of the store, so that it is the very tree that was stored, however
the files may change meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import eris_fs
from eris.capability import ReadCapability
from eris.model import ConvergenceSecret
from eris.sizing import content_size
from kapla.amounts import blocks_text, bytes_text
from kapla.cli.base import Base, read_base
from kapla.cli.common import Store, connect, progress, run
from kapla.cli.noting import Noting
from kapla.cli.pinned import Pinning, Room, pinned
from kapla.cli.quiet import is_watched
from kapla.cli.store import say
from kapla.cli.summary import current_summary

__all__ = ["Making", "making"]


@dataclass(frozen=True, slots=True)
class Making:
    """How the delta is to be made, and where its URN goes."""

    base: Base
    noting: Noting
    write: Callable[[str], None]
    secret: ConvergenceSecret
    pinning: Pinning
    store_url: str | None = field(repr=False)

    def make(self, tree: ReadCapability, source: str) -> None:
        """Make the delta that leads to a tree which is stored; `source`: where it was, for people.

        None, where the tree is the base itself: the delta that leads to it keeps its name.
        Raises: CommandError, ErisError, OSError.
        """
        if tree == self.base.capability:
            if is_watched():
                say(f"nothing has changed since {self.base.shown}: no delta")
            return
        put = run(self._put(tree))
        self.noting.note(put.capability, source, is_tree=False, is_delta=True)
        self.write(put.capability.to_urn())
        self.noting.let_go_of_old_versions()

    async def _put(self, tree: ReadCapability) -> eris_fs.PutDelta:
        async with connect(self.store_url, tree, *self.base.contents) as store:
            new = await eris_fs.load_tree(store, tree)
            async with (
                self.base.open(store) as base,
                eris_fs.StoredFiles(store, new) as files,
            ):
                put = await self._pinned(store, base, files)
            self.noting.measured.size = await content_size(store, put.capability)
            await self.noting.note_store(store)
        if summary := current_summary():
            amount = f"{bytes_text(put.block_bytes)} in {blocks_text(put.blocks)}"
            summary.notes.append(f"delta from {self.base.shown}: {amount}")
        return put

    async def _pinned(
        self, store: Store, base: eris_fs.TreeFiles, new: eris_fs.TreeFiles
    ) -> eris_fs.PutDelta:
        made: list[eris_fs.PutDelta] = []

        async def encode(into: Store | Room) -> ReadCapability:
            with progress("Making the delta", new.outline.size) as shown:
                put = await eris_fs.put_delta(
                    into, base, new, convergence_secret=self.secret, progress=shown.reach
                )
            made.append(put)
            if not isinstance(into, Room):
                await self.noting.before_pin()
            return put.capability

        # How large it becomes shows when it is made.
        await pinned(store, encode, self.pinning, size=lambda _: None, may_repeat=True)
        return made[-1]


def making(
    base: str, noting: Noting, secret: ConvergenceSecret, pinning: Pinning, store_url: str | None
) -> Making:
    """Read `--base`, and see where the URN is to go.

    Raises: CommandError, InvalidCapability, OSError: before the work.
    """
    of_delta = noting.of_delta()
    found = read_base(base)
    return Making(found, of_delta, of_delta.output(), secret, pinning, store_url)
