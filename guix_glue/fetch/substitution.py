"""Brings items, one command after the other: `kapla substitute --substitute`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import assert_never

from eris.threads import in_thread
from guix_glue.errors import HashMismatch, SignatureRejected
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
from guix_glue.fetch.fetcher import Fetched, Fetcher, NotFetched
from guix_glue.fetch.lookup import Found, Lookup
from guix_glue.fetch.session import Policy, Session
from guix_glue.fetch.traces import Messages
from guix_glue.formats.narinfo import Narinfo
from guix_glue.kept.public_notes import PublicNotes
from guix_glue.local.installed import InstalledItems
from guix_glue.local.links import Links
from guix_glue.servers.publicness import is_public
from guix_glue.sources.order import bases_of
from guix_glue.sources.vouching import Candidate
from guix_glue.trust.signature import verify_narinfo

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
        installed: InstalledItems | None = None,
        public: PublicNotes | None = None,
    ) -> None:
        super().__init__(policy, lookup, messages)
        self._public = public
        self._fetcher = fetcher
        self._installed = installed
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
        inquiry = self.lookup.inquire([path])
        found = await inquiry.find([path])
        outcome = await self._fetch(path, found, destination)
        if isinstance(outcome, NotFetched):
            # What was known from before may name what is not there any more.
            again = await inquiry.find_again([path], found)
            if again is not None:
                outcome = await self._fetch(path, again, destination)
        match outcome:
            case Fetched(nar_hash, nar_size):
                return format_success(nar_hash, nar_size)
            case NotFetched(mismatches):
                return self._not_fetched(path, mismatches)

    async def _fetch(self, path: str, found: Found, destination: str) -> Fetched | NotFetched:
        judged = await self.judge_found([path], found, tuple)
        candidates = judged[0] if judged else ()
        ways = (way for way in self.ways(candidates) if self.download_size(way) is not None)
        bases = await self._bases(candidates)
        links = self._links(destination)
        outcome = await self._fetcher.fetch(ways, destination, links, bases)
        if isinstance(outcome, Fetched) and self._public is not None:
            await in_thread(self._note, self._public, candidates, outcome)
        return outcome

    def _note(self, public: PublicNotes, candidates: Sequence[Candidate], fetched: Fetched) -> None:
        """Note an item that anybody can have, so that it may be given away: see `kapla seed`."""
        for candidate in candidates:
            narinfo = candidate.narinfo
            if narinfo.item.nar_hash == fetched.nar_hash and is_public(candidate.server):
                with suppress(SignatureRejected):
                    verify_narinfo(narinfo, self.policy.acl)
                    public.note(narinfo, fetched.tree)
                    return

    async def _bases(self, candidates: Sequence[Candidate]) -> frozenset[str]:
        """Items that are here, from which deltas may lead to the one that is wanted."""
        if self._installed is None or not self.policy.eris:
            return frozenset()
        hints = self.policy.settings.trust_hints
        bases = bases_of((one.narinfo for one in candidates), trust_hints=hints)
        return await in_thread(self._installed.among, bases) if bases else frozenset()

    def _not_fetched(self, path: str, mismatches: Sequence[tuple[Narinfo, HashMismatch]]) -> bytes:
        """The reply: wrong bytes count if somebody who is authorized named where they are."""
        for narinfo, error in mismatches:
            with suppress(SignatureRejected):
                verify_narinfo(narinfo, self.policy.acl)
                return format_mismatch(error.expected, error.actual)
        self.messages.error(f"no valid substitute for '{path}'")
        return NOT_FOUND

    def _links(self, destination: str) -> Links | None:
        store_dir = self.policy.store_dir
        directory = f"{store_dir}/.links"
        if not self._deduplicate or os.path.dirname(destination) != store_dir:
            return None
        return Links(directory) if os.path.isdir(directory) else None
