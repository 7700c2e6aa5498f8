"""Who asks: so that what one client asks for costs the others no more than their share.

The client of a connection stands in the context of whatever is done for it; it need not be handed
from the socket down to the source that has to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from guix_glue.errors import GuixError

__all__ = ["Client", "ClientLeft", "asking", "working_for"]


class ClientLeft(GuixError):
    """Whoever asked has gone: nobody takes the reply."""


class Client:
    """One connection. Whoever keeps something for it is told when it has gone."""

    __slots__ = ("__weakref__", "_farewells", "has_left")

    def __init__(self) -> None:
        self.has_left = False
        self._farewells: list[Callable[[Client], None]] = []

    def when_it_leaves(self, call: Callable[[Client], None]) -> None:
        """Have this called once it has gone: now, if it has."""
        if self.has_left:
            call(self)
        else:
            self._farewells.append(call)

    def leave(self) -> None:
        """It has gone. Does nothing the second time."""
        self.has_left = True
        farewells, self._farewells = self._farewells, []
        for call in farewells:
            call(self)


_client: ContextVar[Client] = ContextVar("client")


@contextmanager
def working_for(client: Client) -> Iterator[None]:
    """What is done in this context is done for a client."""
    token = _client.set(client)
    try:
        yield
    finally:
        _client.reset(token)


def asking() -> Client:
    """The client that this is done for; without a connection, one that has left already."""
    client = _client.get(None)
    if client is None:
        client = Client()
        client.leave()
    return client
