"""The open pin of a connection: it has one at most, and gives it up when it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from kapla.storage.pinning import OpenPin
from kapla.storage.pins import Hold

__all__ = ["AlreadyOpen", "ConnectionPin", "OpenPins"]


class AlreadyOpen(Exception):
    """This connection has a pin that is open, or is being opened."""


class ConnectionPin:
    """What one connection has open."""

    def __init__(self) -> None:
        self.pin: OpenPin | None = None
        self._is_opening = False
        self._is_left = False

    @property
    def hold(self) -> Hold | None:
        """Where what is put and found on this connection belongs."""
        return None if self.pin is None else self.pin.hold

    async def begin(self, opened: Callable[[], Awaitable[OpenPin]]) -> OpenPin:
        """Have a pin from now on.

        Raises: AlreadyOpen.
        """
        if self.pin is not None or self._is_opening:
            raise AlreadyOpen
        self._is_opening = True
        try:
            self.pin = pin = await opened()
        finally:
            self._is_opening = False
        if self._is_left:
            self.leave()
        return pin

    def end(self, pin: OpenPin) -> None:
        """This pin is closed or abandoned; twice is nothing."""
        if self.pin is pin:
            self.pin = None

    def leave(self) -> None:
        """The connection has ended: another one may go on with the pin for a while.

        One that is only being opened is left as soon as it is.
        """
        self._is_left = True
        self.drop()

    def drop(self) -> None:
        """Leave the pin to whoever comes with its token."""
        pin, self.pin = self.pin, None
        if pin is not None:
            pin.detach()


class OpenPins:
    """Which connection has which open pin, for those who come back before their old one ended."""

    def __init__(self) -> None:
        self._by_token: WeakValueDictionary[bytes, ConnectionPin] = WeakValueDictionary()

    def note(self, token: bytes, mine: ConnectionPin) -> None:
        """This connection has the pin with this token."""
        self._by_token[token] = mine

    def take_over(self, token: bytes, owner: int) -> None:
        """Have whoever has this pin of this owner give it up."""
        other = self._by_token.get(token)
        pin = None if other is None else other.pin
        is_it = pin is not None and pin.token == token and pin.hold.owner == owner
        if other is not None and is_it:
            other.drop()
