"""Answers which items can be fetched: `kapla substitute --query`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import assert_never

from eris_fs.threads import in_thread
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
from guix_glue.fetch.narinfos import Candidate, Vouched, find_vouched
from guix_glue.fetch.session import JUDGED_AT_ONCE, Session, log_rejected
from guix_glue.fetch.sources import download_size

__all__ = ["QuerySession"]

_log = logging.getLogger(__name__)


class QuerySession(Session):
    """Answers `have` and `info`."""

    async def answer(self, command: Command) -> bytes:
        """The reply to a command; never an error."""
        try:
            match command:
                case Have(paths):
                    return format_available([path for path, _, _ in await self._available(paths)])
                case Info(paths):
                    available = await self._available(paths)
                    return format_details([(way.narinfo.item, size) for _, way, size in available])
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

    async def _available(self, paths: Sequence[str]) -> list[tuple[str, Vouched, int]]:
        """What can be fetched: path, how, and the bytes of the download."""
        candidates = list((await self.candidates(paths)).items())
        result: list[tuple[str, Vouched, int]] = []
        for start in range(0, len(candidates), JUDGED_AT_ONCE):
            result += await in_thread(self._judge, candidates[start : start + JUDGED_AT_ONCE])
        return result

    def _judge(
        self, some: Sequence[tuple[str, Sequence[Candidate]]]
    ) -> list[tuple[str, Vouched, int]]:
        policy = self.policy
        result = []
        for path, candidates in some:
            way = next(find_vouched(candidates, policy.acl, log_rejected), None)
            if way is None:
                continue
            size = download_size(way, eris=policy.eris, trust_hints=policy.trust_hints)
            if size is not None:
                result.append((path, way, size))
        return result
