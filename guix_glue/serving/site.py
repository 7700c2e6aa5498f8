"""The port: what stands behind the connections, whatever it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from guix_glue.serving.reply import Reply, Request

__all__ = ["Kept", "Site"]


class Site(Protocol):
    """Answers requests."""

    async def answer(self, request: Request) -> Reply:
        """The reply to a request, whatever it is. Never raises but for a cancellation."""

    def expect(self, paths: Sequence[str]) -> None:
        """Requests for these paths have come in, and will be answered one by one."""


class Kept(Protocol):
    """What is kept on disk, and tidied while it is served. Raises: ErisError, OSError."""

    async def expire(self, before: float) -> None:
        """Forget what was not used since a time (seconds of the epoch) and has gone."""

    async def sweep(self) -> None:
        """Remove what a server that was killed has left."""
