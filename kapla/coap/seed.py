"""Whoever can make blocks again says so here: `/kapla/seed`. See docs/wire.md.

From then on that is asked on the same connection for what is not stored. Who may be one is decided
behind the port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from eris.errors import ErisError
from kapla.coap.blocks import code_of_error, diagnostic
from kapla.coap.fragments import Fragmenting, respond
from kapla.coap.frame import Code

if TYPE_CHECKING:
    from kapla.coap.link import Link

__all__ = ["SeedDoor", "SeedResource"]


class SeedDoor(Protocol):
    """Lets seeds in."""

    def enter(self, link: Link, uid: int | None, /) -> None:
        """Whoever is at the other end is a seed from now on, until the connection ends.

        `uid`: of a program on this machine, as the kernel knows it; None where it does not.
        Raises: StoreRefused, if this one may not be; StoreUnavailable, if it may later.
        """
        ...


class SeedResource(Fragmenting):
    """Becoming a seed."""

    def get_link_description(self) -> None:
        """Not shown in discovery: whether one may depends on who asks."""

    async def render_post(self, request: Any) -> Any:
        """Let whoever asks be one."""
        if request.payload:
            return respond(Code.BAD_REQUEST, b"a seed says nothing but that it is one")
        try:
            entered = request.remote.enter_seed()
        except ErisError as error:
            return respond(code_of_error(error), diagnostic(error))
        return respond(Code.CHANGED if entered else Code.NOT_FOUND)
