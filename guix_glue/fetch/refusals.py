"""Tells the user why what a server says is not used: once for each server and kind of fault.

A build asks for thousands of items, and one mistake, a key that was never authorized for one, is
made for all of them. A server has room for a few kinds; that there are more is said, too. Those
that were found on the local network share it: who is there may announce any number of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from guix_glue.errors import GuixError, InvalidNarinfo, NotAuthorized
from guix_glue.fetch.traces import Messages
from guix_glue.servers.url import Server

__all__ = ["Refusals", "Unauthorized", "reason_of_refusal"]

_log = logging.getLogger(__name__)

_KINDS: Final = 8
"""Kinds of faults of one server that are told; there are hardly more that differ."""


class Refusals:
    """What was told. As many servers are remembered as are asked.

    `damaged` is called with a server and a path for what is not merely of somebody unknown.
    """

    def __init__(
        self, messages: Messages, damaged: Callable[[Server, str], None] = lambda _, __: None
    ) -> None:
        self._messages = messages
        self._damaged = damaged
        # None: all that were found.
        self._told: dict[Server | None, set[str]] = {}

    def refuse(self, server: Server, path: str, error: GuixError) -> None:
        """A narinfo about `path` is not used."""
        reason = reason_of_refusal(error)
        _log.debug("The narinfo of %s from %s: %s", path, server.shown, reason)
        if not isinstance(error, NotAuthorized):
            self._damaged(server, path)
        self.tell(server, _kind(error), f"the narinfo of {server.shown}: {reason}")

    def tell(self, server: Server, kind: str, text: str) -> None:
        """Something is wrong with a server; nothing is said if it was said before."""
        told = self._told.setdefault(None if server.nearby else server, set())
        if kind in told or len(told) > _KINDS:
            return
        told.add(kind)
        if len(told) > _KINDS:
            who = "some server of the local network" if server.nearby else server.shown
            text = f"more is wrong with what {who} says"
        self._messages.warn(text)


class Unauthorized:
    """Those who say something of an item and are not authorized: told only if nobody is."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._kept: list[tuple[Server, str, GuixError]] = []

    def refuse(self, server: Server, path: str, error: GuixError) -> None:
        """A narinfo is not believed."""
        if isinstance(error, NotAuthorized):
            self._kept.append((server, path, error))
        else:
            self._refusals.refuse(server, path, error)

    def tell(self) -> None:
        """Nothing else was there to believe."""
        for refused in self._kept:
            self._refusals.refuse(*refused)


def reason_of_refusal(error: GuixError) -> str:
    """What is wrong, after the field that is: without the words that name the kind of error."""
    reason = str(getattr(error, "reason", error))
    field = error.field if isinstance(error, InvalidNarinfo) else None
    return f"{field}: {reason}" if field else reason


def _kind(error: GuixError) -> str:
    """What distinguishes it: the values that are wrong differ from item to item."""
    field = error.field if isinstance(error, InvalidNarinfo) else None
    return field or reason_of_refusal(error)
