"""Which items are here, for whoever can do without: nothing is waited for, and nothing is an error.

The database knows which items are valid. Where it cannot be read, or is locked, an item counts that
is there: whoever reads its files compares what comes of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from guix_glue.errors import GuixError

__all__ = ["InstalledItems"]

_log = logging.getLogger(__name__)


class InstalledItems:
    """Items of the store at `store_dir`, whose database is in `database_dir`.

    Plain synchronous code, for a worker thread.
    """

    def __init__(self, database_dir: str, store_dir: str) -> None:
        self._database_dir = database_dir
        self._store_dir = store_dir

    def among(self, base_names: Iterable[str]) -> frozenset[str]:
        """Those of these items (`HASH-NAME`) that are here and, as far as is known, valid."""
        there = [name for name in base_names if os.path.lexists(self._path(name))]
        if not there:
            return frozenset()
        # Loaded only here: most items are wanted where nothing is like them.
        from guix_glue.local.store_db import StoreDatabase

        database = StoreDatabase(self._database_dir, self._store_dir, busy_timeout_s=0)
        try:
            return frozenset(name for name in there if database.valid(self._path(name)))
        except GuixError as error:
            _log.debug("Whether items are valid is not known: %s", error)
            return frozenset(there)

    def _path(self, name: str) -> str:
        return f"{self._store_dir}/{name}"
