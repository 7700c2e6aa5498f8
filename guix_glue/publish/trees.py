"""Encodes items as trees into an ERIS store, for a publisher and for a mirror alike."""

from __future__ import annotations

import logging
import time

from eris.capability import ReadCapability
from eris.errors import StoreError
from eris_fs.errors import TreeTooLarge, UnsupportedEntry
from guix_glue.formats.store_path import hash_part_of
from guix_glue.kept.records import Destination, ErisResult
from guix_glue.publish.model import ErisTarget
from guix_glue.publish.queue import TryLater
from guix_glue.publish.store_watch import StoreWatch

__all__ = ["EncodeTree"]

_log = logging.getLogger(__name__)


class EncodeTree:
    """Encodes trees into a store; leaves a store that failed alone for a while."""

    def __init__(self, target: ErisTarget) -> None:
        self.target = target
        self.watch = StoreWatch(target)
        """What is known of the store."""

    @property
    def destination(self) -> Destination:
        """What its results are for."""
        return self.target.destination

    def check(self) -> None:
        """See that it is worth to begin.

        Raises: TryLater, while a store that failed is left alone.
        """
        self.watch.check()

    async def __call__(self, root: str, name: str) -> ErisResult:
        """Encode the tree at `root`; `name` is the item's, with its hash part.

        A tree that its format cannot express gives a result without URN.
        Raises: TryLater, if the store fails; FileChanged; OSError.
        """
        self.check()
        try:
            capability = await self._put(root, name)
        except (UnsupportedEntry, TreeTooLarge) as error:
            if isinstance(error.__cause__, OSError):
                # What cannot be read today says nothing about the tree.
                raise
            _log.info("%s has no URN: %s", name, error)
            return ErisResult(self.destination.format, None, reason=str(error))
        except StoreError as error:
            self.watch.failed(f"{name} has no URN", error)
            raise TryLater from error
        self.watch.works()
        store_id = self.destination.store_id
        stores = () if store_id is None else (store_id,)
        _log.debug("Encoded %s", name)
        return ErisResult(
            self.destination.format, capability.to_urn(), stores, baked_at=time.time()
        )

    async def _put(self, root: str, name: str) -> ReadCapability:
        """Encode a tree, under a pin if there are pins."""
        target = self.target
        if target.pins is None:
            return await target.trees.put(target.store, root, None)
        async with target.pins.opened() as pin:
            capability = await target.trees.put(pin.store, root, target.known(pin.store))
            await pin.keep(hash_part_of(name), capability.root.reference)
            return capability
