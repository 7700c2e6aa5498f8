"""Those who share a listener, as one of their connections sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kapla.coap.beyond import Beyond
    from kapla.coap.link import Link
    from kapla.coap.put_rate import PutRate

__all__ = ["Fellows"]


class Fellows(Protocol):
    """The connections of a listener."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def opened(self, link: Link, /) -> None:
        """A connection is made; it may be told to `finish`, or refused."""
        ...

    def closed(self, link: Link, /) -> None:
        """A connection has ended, and nothing is worked on for it."""
        ...

    def beyond(self, link: Link, /) -> Beyond | None:
        """Who is asked for what is not here, on behalf of this connection. None: nobody."""
        ...

    def put_rate(self, uid: int | None, /) -> PutRate | None:
        """How fast a user, or those whom nobody knows (None), may put. None: as fast as it goes."""
        ...
