"""Answers which items can be fetched: `kapla substitute --query`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import assert_never

from guix_glue.fetch.dialogue import (
    NO_ITEMS,
    Command,
    Have,
    Info,
    Substitute,
    Unreadable,
    format_available,
    format_details,
)
from guix_glue.fetch.session import Session
from guix_glue.model import StoreItem
from guix_glue.sources.vouching import Candidate, Vouched

__all__ = ["QuerySession"]

_log = logging.getLogger(__name__)


class QuerySession(Session):
    """Answers `have` and `info`."""

    async def answer(self, command: Command) -> bytes:
        """The reply to a command; never an error."""
        try:
            match command:
                case Have(paths):
                    return format_available(await self.judge(paths, self._path))
                case Info(paths):
                    return format_details(await self.judge(paths, self._details))
                case Substitute():
                    self.messages.warn("a query expects no substitute command")
                case Unreadable(reason):
                    self.messages.warn(reason)
                case _:
                    assert_never(command)
        except Exception as error:
            # Whatever it is, the user can still build.
            _log.debug("A query failed", exc_info=error)
            self.messages.warn(f"the query failed ({type(error).__name__}); nothing is available")
        return NO_ITEMS

    def _path(self, candidates: Sequence[Candidate]) -> str | None:
        details = self._details(candidates)
        return details and details[0].path

    def _details(self, candidates: Sequence[Candidate]) -> tuple[StoreItem, int] | None:
        """What the daemon is told of an item, with the bytes of the download."""
        way = next(filter(self._may_have_its_size, self.ways(candidates)), None)
        if way is None:
            return None
        size = self.download_size(way)
        return None if size is None else (way.item, size)

    def _may_have_its_size(self, way: Vouched) -> bool:
        """Whether it would be fetched: a size that nobody signed is believed up to a limit."""
        most = self.policy.settings.max_unsigned_size
        if way.size_is_signed or way.item.nar_size <= most:
            return True
        self.refuse(way, f"its size is not signed, and above {most} bytes")
        return False
