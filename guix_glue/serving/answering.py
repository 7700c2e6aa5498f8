"""The frame of every answer: which methods there are, and what is said when there is none.

Whatever goes wrong inside becomes a reply, and a line in the log; strangers choose what is asked
for, and how often, so that the same line comes once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Final

from eris.errors import ErisError
from guix_glue.servers.complaints import Complaints
from guix_glue.serving.clients import ClientLeft
from guix_glue.serving.reply import TEXT_TYPE, Reply, Request

__all__ = ["Frame", "text_reply"]

_METHODS: Final = ("GET", "HEAD")
_COMPLAINTS: Final = 1000


class Frame:
    """Of one site."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._complaints = Complaints(log, length=_COMPLAINTS)

    def refused(self, request: Request) -> Reply | None:
        """The reply to a request that only asks for what nobody does; None for any other."""
        if request.method in _METHODS:
            return None
        return text_reply(405, "Method not allowed", headers=(("Allow", ", ".join(_METHODS)),))

    async def answered(self, answer: Awaitable[Reply | None]) -> Reply | None:
        """The answer, or a reply that tells why there is none. Never raises but if cancelled."""
        try:
            return await answer
        except ClientLeft:
            return None
        except (ErisError, OSError) as error:
            self._complaints.say(str(error), f"Cannot answer: {error}")
            return text_reply(503, "The server cannot tell at the moment")
        except Exception:
            self._log.exception("An answer failed")
            return text_reply(500, "Internal error")


def text_reply(
    status: int, text: str, age_s: int | None = None, headers: tuple[tuple[str, str], ...] = ()
) -> Reply:
    """A reply in words. `age_s` is how long it is good."""
    return Reply(status, TEXT_TYPE, text.encode("utf-8", "surrogateescape"), age_s, headers)
