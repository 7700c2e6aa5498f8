"""Where a publisher learns which items there are, and what it may say of them.

`Items` is the port. For the store of Guix the daemon is asked, which knows best and may be asked by
anybody; its database answers while the daemon cannot be reached. Of Nix the database alone is read:
there need not be any daemon, and what it would say it reads there. A directory that is no
store at all is in `item_directory.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from eris.threads import in_thread
from guix_glue.errors import DaemonError, GuixError, InvalidFacts, ProtocolError
from guix_glue.formats.store_path import is_hash_part, is_store_path
from guix_glue.local.daemon import GuixDaemon
from guix_glue.local.environment import GuixEnvironment, NixEnvironment
from guix_glue.local.item_facts import checked_item
from guix_glue.local.store_db import NIX_LAYOUT, StoreDatabase
from guix_glue.local.worker_requests import (
    is_valid_path,
    query_path_from_hash_part,
    query_path_info,
)
from guix_glue.model import StoreItem

__all__ = [
    "DaemonItems",
    "DatabaseItems",
    "FallbackItems",
    "Items",
    "open_nix_items",
    "open_store_items",
]

_log = logging.getLogger(__name__)

T = TypeVar("T")

# A daemon that does not answer costs a timeout: it is not asked again for so long.
_TRY_AGAIN_S: Final = 30.0


class Items(Protocol):
    """The valid items of a store. `store_dir` is the directory that their paths begin with."""

    store_dir: str

    async def find(self, hash_part: str) -> StoreItem | None:
        """The item with this hash part; None if there is none, or if it is no hash part.

        Raises: GuixError, if this cannot be found out.
        """
        ...

    def location(self, item: StoreItem) -> str:
        """Where in the file system the contents are of an item that `find` gave."""
        ...

    async def valid(self, path: str) -> bool:
        """Whether there is an item at this full path.

        Raises: GuixError, if this cannot be found out.
        """
        ...

    def doubt(self, item: StoreItem) -> None:
        """The files of an item were found to have another hash than `find` said."""
        ...

    async def close(self) -> None:
        """Let go of what is held."""
        ...


class DaemonItems:
    """What the daemon says, in two round trips for each item."""

    def __init__(self, daemon: GuixDaemon, store_dir: str) -> None:
        self._daemon = daemon
        self.store_dir = store_dir

    async def find(self, hash_part: str) -> StoreItem | None:
        """See `Items`. Raises: DaemonError, ProtocolError."""
        if not is_hash_part(hash_part):
            return None
        path = await self._daemon.call(query_path_from_hash_part(hash_part))
        if path is None:
            return None
        if not path.startswith(f"{self.store_dir}/{hash_part}"):
            raise ProtocolError(f"the Guix daemon says that {hash_part} is {path}")
        return await self._describe(path)

    def location(self, item: StoreItem) -> str:
        """See `Items`."""
        return item.path

    async def valid(self, path: str) -> bool:
        """See `Items`. Raises: DaemonError, ProtocolError."""
        if not is_store_path(path, self.store_dir):
            return False
        return await self._daemon.call(is_valid_path(path))

    def doubt(self, item: StoreItem) -> None:
        """See `Items`: the daemon says what was registered, whatever became of it."""

    async def close(self) -> None:
        """Close the connection to the daemon."""
        await self._daemon.close()

    async def _describe(self, path: str) -> StoreItem | None:
        try:
            info = await self._daemon.call(query_path_info(path))
        except DaemonError as error:
            if error.status is None or await self.valid(path):
                raise
            # It was deleted between the two requests.
            return None
        return checked_item(
            self.store_dir,
            path,
            nar_hash=info.nar_hash,
            nar_size=info.nar_size,
            references=info.references,
            deriver=info.deriver,
        )


class DatabaseItems:
    """What the daemon's database says; it may lag behind what the daemon would say."""

    def __init__(self, database: StoreDatabase, store_dir: str) -> None:
        self._database = database
        self.store_dir = store_dir

    async def find(self, hash_part: str) -> StoreItem | None:
        """See `Items`. Raises: DatabaseError, ProtocolError."""
        return await in_thread(self._database.find, hash_part)

    def location(self, item: StoreItem) -> str:
        """See `Items`."""
        return item.path

    async def valid(self, path: str) -> bool:
        """See `Items`. Raises: DatabaseError."""
        return await in_thread(self._database.valid, path)

    def doubt(self, item: StoreItem) -> None:
        """See `Items`: the database says what was registered, whatever became of it."""

    async def close(self) -> None:
        """Nothing is held open."""


class FallbackItems:
    """The first source, or the second while the first cannot be reached or makes no sense.

    An error that the first gives as its answer is the answer. A first source that failed is asked
    again after `try_again_s`. It is asked one thing at a time.
    """

    def __init__(
        self,
        first: Items,
        second: Items,
        *,
        try_again_s: float = _TRY_AGAIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first
        self._second = second
        self._try_again_s = try_again_s
        self._clock = clock
        self._failed_at: float | None = None
        self._lock = asyncio.Lock()
        self.store_dir = first.store_dir

    async def find(self, hash_part: str) -> StoreItem | None:
        """See `Items`. Raises: GuixError, of the second source, if that is the one in use."""
        return await self._ask(
            lambda: self._first.find(hash_part), lambda: self._second.find(hash_part)
        )

    def location(self, item: StoreItem) -> str:
        """See `Items`."""
        return self._first.location(item)

    async def valid(self, path: str) -> bool:
        """See `Items`. Raises: as `find`."""
        return await self._ask(lambda: self._first.valid(path), lambda: self._second.valid(path))

    def doubt(self, item: StoreItem) -> None:
        """See `Items`."""
        self._first.doubt(item)
        self._second.doubt(item)

    async def close(self) -> None:
        """Close both."""
        try:
            await self._first.close()
        finally:
            await self._second.close()

    async def _ask(
        self, first: Callable[[], Awaitable[T]], second: Callable[[], Awaitable[T]]
    ) -> T:
        async with self._lock:
            # Whoever waited learns here what became of the one before: only one meets a timeout.
            if not self._is_given_up():
                try:
                    result = await first()
                except InvalidFacts:
                    # The database holds the same; of all other items the daemon may be asked.
                    raise
                except (DaemonError, ProtocolError) as error:
                    if isinstance(error, DaemonError) and error.status is not None:
                        raise
                    self._give_up(error)
                else:
                    self._recover()
                    return result
        return await second()

    def _is_given_up(self) -> bool:
        return self._failed_at is not None and self._clock() < self._failed_at + self._try_again_s

    def _give_up(self, error: GuixError) -> None:
        if self._failed_at is None:
            _log.warning("%s; the database of the store is read instead", error)
        self._failed_at = self._clock()

    def _recover(self) -> None:
        if self._failed_at is not None:
            _log.info("the Guix daemon answers again")
            self._failed_at = None


def open_store_items(environment: GuixEnvironment) -> FallbackItems:
    """The items of this machine's store: by its daemon, or by its database.

    Raises: DaemonError, if the daemon's address is none.
    """
    store_dir = environment.store_dir
    daemon = GuixDaemon(environment.daemon_socket)
    database = StoreDatabase(environment.database_dir, store_dir)
    return FallbackItems(DaemonItems(daemon, store_dir), DatabaseItems(database, store_dir))


def open_nix_items(environment: NixEnvironment) -> DatabaseItems:
    """The items of this machine's store of Nix, by its database."""
    store_dir = environment.store_dir
    return DatabaseItems(StoreDatabase(environment.database_dir, store_dir, NIX_LAYOUT), store_dir)
