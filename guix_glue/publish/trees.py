"""Encodes items as trees into an ERIS store, for a publisher and for a mirror alike."""

from __future__ import annotations

import logging
from typing import Final

from eris.capability import ReadCapability
from eris.errors import StoreError
from eris_fs.errors import TreeTooLarge, UnsupportedEntry
from guix_glue.formats.store_path import hash_part_of
from guix_glue.publish.model import ErisTarget
from guix_glue.publish.outage import Outage
from guix_glue.publish.queue import TryLater
from guix_glue.publish.records import Destination, ErisResult

__all__ = ["EncodeTree"]

_log = logging.getLogger(__name__)

_STORE_PAUSE_S: Final = 10.0
"""A store that failed is not asked by the other jobs for so long."""


class EncodeTree:
    """Encodes trees into a store; leaves a store that failed alone for a while."""

    def __init__(self, target: ErisTarget) -> None:
        self._target = target
        self._outage = Outage(_STORE_PAUSE_S)

    @property
    def destination(self) -> Destination:
        """What its results are for."""
        return self._target.destination

    def check(self) -> None:
        """See that it is worth to begin.

        Raises: TryLater, while a store that failed is left alone.
        """
        if self._outage.left_s:
            raise TryLater(self._outage.left_s)

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
            self._note_failure(name, error)
            raise TryLater from error
        if self._outage.end():
            _log.info("The store takes blocks again")
        store_id = self.destination.store_id
        stores = () if store_id is None else (store_id,)
        _log.debug("Encoded %s", name)
        return ErisResult(self.destination.format, capability.to_urn(), stores)

    async def _put(self, root: str, name: str) -> ReadCapability:
        """Encode a tree, under a pin if there are pins."""
        target = self._target
        if target.pins is None:
            return await target.trees.put(target.store, root, None)
        async with target.pins.opened() as pin:
            capability = await target.trees.put(pin.store, root, target.known(pin.store))
            await pin.keep(hash_part_of(name), capability.root.reference)
            return capability

    def _note_failure(self, name: str, error: StoreError) -> None:
        # The message of the error may name the store's URL, which is not for every log.
        if self._outage.begin(self._target.explain(error)):
            _log.warning(
                "%s has no URN for now: the store %s; tried again every %.0f s or later",
                name,
                self._outage.reason or "cannot be reached or fails",
                _STORE_PAUSE_S,
            )
        _log.debug("The store failed", exc_info=True)
