"""The ERIS store while it fails: that is said once, and all jobs leave it alone for a while."""

from __future__ import annotations

import logging
from typing import Final

from eris.errors import StoreError
from guix_glue.publish.model import ErisTarget
from guix_glue.publish.queue import TryLater
from guix_glue.servers.outage import Outage

__all__ = ["StoreWatch"]

_log = logging.getLogger(__name__)

_STORE_PAUSE_S: Final = 10.0
"""A store that failed is not asked by the other jobs for so long."""


class StoreWatch:
    """Knows how it stands with a store, for whoever puts trees or deltas into it."""

    def __init__(self, target: ErisTarget) -> None:
        self._target = target
        self._outage = Outage(_STORE_PAUSE_S)

    def check(self) -> None:
        """See that it is worth to begin.

        Raises: TryLater, while a store that failed is left alone.
        """
        if self._outage.left_s:
            raise TryLater(self._outage.left_s)

    def failed(self, what: str, error: StoreError) -> None:
        """The store failed; `what` is missing for now, as `ITEM has no URN`."""
        # The message of the error may name the store's URL, which is not for every log.
        if self._outage.begin(self._target.explain(error)):
            _log.warning(
                "%s for now: the store %s; tried again every %.0f s or later",
                what,
                self._outage.reason or "cannot be reached or fails",
                _STORE_PAUSE_S,
            )
        _log.debug("The store failed", exc_info=True)

    def works(self) -> None:
        """The store took what was put."""
        if self._outage.end():
            _log.info("The store takes blocks again")
