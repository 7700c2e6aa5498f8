"""Encodes what leads from one item to another into an ERIS store, if it is worth its blocks.

A delta has a pin of its own, beside that of its item's tree. One that is not a quarter smaller than
the tree is given up: whoever has the base then takes the tree, which is there for everybody. Memory
is that of `put_delta`, so one is made at a time.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, ContentError, InvalidCapability, StoreError
from eris.model import Reference
from eris.store import BlockReader, BlockWriter
from eris_fs import load_tree, survey_tree
from eris_fs.delta.encode import put_delta
from eris_fs.errors import DeltaTooLarge, InvalidManifest, TreeTooLarge, UnsupportedEntry
from guix_glue.errors import NotBaked
from guix_glue.kept.delta_results import DeltaResult, delta_key
from guix_glue.kept.records import Destination
from guix_glue.publish.delta_trees import KnownTree, OpenTree, opened_base
from guix_glue.publish.model import ErisTarget
from guix_glue.publish.queue import TryLater
from guix_glue.publish.store_watch import StoreWatch

__all__ = ["EncodeDelta"]

_log = logging.getLogger(__name__)

_SMALL: Final = 16 * 1024
"""A tree of so few bytes of blocks is there at once: a delta would spare next to nothing."""

_Keep = Callable[[Reference], Awaitable[None]]


class EncodeDelta:
    """Encodes deltas into a store, at a level of zstd; `watch` is shared with who encodes trees."""

    def __init__(self, target: ErisTarget, watch: StoreWatch, *, level: int) -> None:
        self._target = target
        self._watch = watch
        self._level = level

    @property
    def destination(self) -> Destination:
        """What its results are for."""
        return self._target.destination

    def check(self) -> None:
        """See that it is worth to begin. Raises: TryLater, while the store is left alone."""
        self._watch.check()

    async def __call__(
        self, tree: KnownTree, new: OpenTree, base_name: str, base: OpenTree
    ) -> DeltaResult:
        """Encode the delta that leads to an item from the base of this name (`HASH-NAME`).

        What cannot be expressed, or is not worth it, gives a result without URN.
        Raises: TryLater, if the store fails; BaseGone; NotBaked; FileChanged; OSError.
        """
        name = tree.item.base_name
        try:
            return await self._put(tree, new, base_name, base)
        except DeltaTooLarge:
            return DeltaResult(base_name, reason="it is not a quarter smaller than the tree")
        except (UnsupportedEntry, TreeTooLarge) as error:
            if isinstance(error.__cause__, OSError):
                # What cannot be read today says nothing about the tree.
                raise
            return DeltaResult(base_name, reason=str(error))
        except StoreError as error:
            self._watch.failed(f"{name} has no delta", error)
            raise TryLater from error
        except (BlockNotFound, ContentError, InvalidManifest, InvalidCapability) as error:
            raise NotBaked(name, f"a delta: its own tree cannot be read: {error}") from error

    async def _put(
        self, tree: KnownTree, new: OpenTree, base_name: str, base: OpenTree
    ) -> DeltaResult:
        async with self._opened(delta_key(tree.item.hash_part, base_name)) as (store, keep):
            size = await self._tree_size(tree, store)
            if size <= _SMALL:
                return DeltaResult(base_name, reason="the tree is small")
            async with new(store) as new_files, opened_base(base, store) as base_files:
                most = size - size // 4
                made = await put_delta(
                    store, base_files, new_files, level=self._level, concurrency=1, most=most
                )
            await keep(made.capability.root.reference)
        self._watch.works()
        _log.debug("Encoded the delta from %s to %s", base_name, tree.item.base_name)
        return DeltaResult(base_name, made.capability.to_urn(), made.block_bytes)

    async def _tree_size(self, tree: KnownTree, store: BlockReader) -> int:
        """The bytes of the distinct blocks of an item's own tree."""
        urn = None if tree.eris is None else tree.eris.urn_in(self.destination)
        if urn is None:
            raise NotBaked(tree.item.base_name, "a delta: there is no tree")
        capability = ReadCapability.from_urn(urn)
        survey = await survey_tree(store, capability, await load_tree(store, capability))
        return survey.block_bytes

    @asynccontextmanager
    async def _opened(self, key: str) -> AsyncIterator[tuple[BlockWriter, _Keep]]:
        """Where the blocks go, and what is done when they are there: under a pin, if there are."""
        target = self._target
        if target.pins is None:
            yield target.store, _no_pin
            return
        async with target.pins.opened() as pin:
            yield pin.store, lambda root: pin.keep(key, root)


async def _no_pin(root: Reference) -> None:
    """There are none."""
