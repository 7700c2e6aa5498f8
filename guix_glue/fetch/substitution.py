"""Brings items, one command after the other: `kapla substitute --substitute`."""

from __future__ import annotations

import logging
import os
from typing import assert_never

from guix_glue.errors import HashMismatch
from guix_glue.fetch.dialogue import (
    NOT_FOUND,
    Command,
    Have,
    Info,
    Substitute,
    Unreadable,
    format_mismatch,
    format_success,
)
from guix_glue.fetch.fetcher import Fetched, Fetcher
from guix_glue.fetch.lookup import Lookup
from guix_glue.fetch.narinfos import find_vouched
from guix_glue.fetch.session import Policy, Session
from guix_glue.fetch.traces import Messages
from guix_glue.local.links import Links
from guix_glue.servers.url import Server

__all__ = ["SubstituteSession"]

_log = logging.getLogger(__name__)


class SubstituteSession(Session):
    """Answers `substitute`."""

    def __init__(
        self,
        policy: Policy,
        lookup: Lookup,
        messages: Messages,
        fetcher: Fetcher,
        *,
        deduplicate: bool,
    ) -> None:
        super().__init__(policy, lookup, messages)
        self._fetcher = fetcher
        self._deduplicate = deduplicate

    async def answer(self, command: Command) -> bytes:
        """The reply to a command, exactly one line; never an error."""
        try:
            match command:
                case Substitute(path, destination):
                    return await self._substitute(path, destination)
                case Have() | Info():
                    self.messages.warn("no query is expected")
                case Unreadable(reason):
                    self.messages.warn(reason)
                case _:
                    assert_never(command)
        except Exception as error:
            _log.debug("A substitute failed", exc_info=error)
            self.messages.error(f"the download failed ({type(error).__name__})")
        return NOT_FOUND

    async def _substitute(self, path: str, destination: str) -> bytes:
        found = await self.judge([path], tuple)
        reasons: list[str] = []

        def rejected(server: Server, _: str, reason: str) -> None:
            reasons.append(f"the narinfo of {server.shown}: {reason}")

        ways = find_vouched(found[0] if found else (), self.policy.acl, rejected)
        links = self._links(destination)
        match await self._fetcher.fetch(ways, destination, links):
            case Fetched(nar_hash, nar_size):
                return format_success(nar_hash, nar_size)
            case HashMismatch() as error:
                return format_mismatch(error.expected, error.actual)
        for reason in reasons:
            self.messages.warn(reason)
        self.messages.error(f"no valid substitute for '{path}'")
        return NOT_FOUND

    def _links(self, destination: str) -> Links | None:
        store_dir = self.policy.store_dir
        directory = f"{store_dir}/.links"
        if not self._deduplicate or os.path.dirname(destination) != store_dir:
            return None
        return Links(directory) if os.path.isdir(directory) else None
