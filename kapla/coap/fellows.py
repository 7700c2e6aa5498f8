"""Those who share a listener, as one of their connections sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from kapla.coap.allowance import Allowance
    from kapla.coap.beyond import Reach
    from kapla.coap.link import Link
    from kapla.coap.put_rate import PutRate
    from kapla.coap.site import AiocoapLane
    from kapla.storage.access import BlockAccess

__all__ = ["Fellows", "Guests", "Welcome"]


class Welcome(NamedTuple):
    """What there is for whoever is at the other end of a connection."""

    access: BlockAccess
    lane: AiocoapLane
    allowance: Allowance


class Guests(Protocol):
    """Tells those who connect apart, by what is known of them."""

    def welcome(self, link: Link, /) -> Welcome | None:
        """A connection is made. None: what all have who come by its listener, without limits."""
        ...

    def has_a_place(self, link: Link, /) -> bool:
        """Whether it may stay though there are too many."""
        ...

    def may_ask_others(self, link: Link, /) -> bool:
        """Whether others may be asked on its behalf."""
        ...


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

    def welcome(self, link: Link, /) -> Welcome | None:
        """See `Guests`."""
        ...

    @property
    def reach(self) -> Reach | None:
        """Who is asked for what is not here. None: nobody."""
        ...

    def goes_on(self, link: Link, /) -> bool:
        """Whether these may be asked on other machines, too, on behalf of this connection."""
        ...

    def enter_seed(self, link: Link, uid: int | None, /) -> bool:
        """Whoever is there is a seed from now on: see kapla.coap.seed. False: nobody can be."""
        ...

    def put_rate(self, uid: int | None, /) -> PutRate | None:
        """How fast a user, or those whom nobody knows (None), may put. None: as fast as it goes."""
        ...
