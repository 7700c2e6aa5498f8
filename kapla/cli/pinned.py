"""Storing under a pin: what a person stores, stays.

The pin is open before the first block goes, so that nothing of it can be evicted meanwhile; it is
closed when all is stored, and abandoned otherwise. A content that is larger than the room there is
fails before anything of it is sent, unless enough of it is in the store already: to find that out
it is encoded once without being sent. In a store that has no pins, or none for us, blocks are put
as ever, and one line says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, ParamSpec, TypeAlias, TypeVar

import click

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, StoreFull
from eris.model import BlockSize, Reference
from eris.threads import in_thread
from kapla.cli.store import Store, say
from kapla.errors import PinLost, PinsUnsupported

if TYPE_CHECKING:
    from kapla.pinning import OpenPin, Pins
    from kapla.remote_store import RemoteStore

__all__ = ["Pinning", "Room", "is_lent", "pin_options", "pinned", "read_pinning", "say_not_lent"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# References in one question to the store.
_BATCH: Final = 1024


@dataclass(frozen=True, slots=True)
class Pinning:
    """What is to become of what is stored."""

    pin: bool = True
    lend: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is held while it is stored."""
        return self.pin or self.lend

    def instead(self, why: object, store: object) -> str:
        """What to say where the store has no pins."""
        if self.pin:
            return f"not pinned: {why}; {store} may drop this when it needs room"
        return f"not lent: {why}"

    async def settle(
        self, pin: OpenPin, root: Reference, *, lend: bool = False, incomplete: bool = False
    ) -> bool:
        """Pin what is held, or lend it without; `lend`: also if that was not asked for.

        Returns False if it should be lent and is not: the store lends nothing without a pin.
        Raises: StoreError.
        """
        if not self.pin:
            return bool(await pin.lend())
        await pin.close(root=root, lend=self.lend or lend, incomplete=incomplete)
        return True


def pin_options(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `--no-pin` and `--lend` to a command: see `read_pinning`."""
    lend = click.option(
        "--lend", is_flag=True, help="Let the daemon give it to others, as kapla lend does."
    )
    no_pin = click.option(
        "--no-pin",
        is_flag=True,
        help="Keep no pin: it may go when the store needs room. With --lend it is lent until then.",
    )
    return no_pin(lend(command))


def read_pinning(no_pin: bool, lend: bool, *, no_store: bool) -> Pinning:
    """What these options say together.

    Raises: click.UsageError.
    """
    if lend and no_store:
        raise click.UsageError("--no-store and --lend exclude each other: nothing is stored.")
    return Pinning(not no_pin, lend)


class Room:
    """Stands in for a store to find out whether there is room for what would be put.

    Raises the error it is given as soon as more is lacking than there is room.
    """

    def __init__(self, store: Store, room: int, error: StoreFull) -> None:
        self._store = store
        self._left = room
        self._error = error
        self._seen: set[Reference] = set()
        self._asked: dict[Reference, int] = {}

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        """Nothing is there to be read."""
        raise BlockNotFound(reference)

    async def put(self, reference: Reference, block: bytes) -> None:
        """Count a block, unless it is in the store."""
        if reference in self._seen:
            return
        self._seen.add(reference)
        self._asked[reference] = len(block)
        if len(self._asked) >= _BATCH:
            await self.settle()

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        """What is there need not be put."""
        return await self._store.find(references)

    async def settle(self) -> None:
        """Ask the store about those that were counted last."""
        asked, self._asked = self._asked, {}
        found = await self._store.find(list(asked))
        self._left -= sum(
            size for size, is_there in zip(asked.values(), found, strict=True) if not is_there
        )
        if self._left < 0:
            raise self._error


Encode: TypeAlias = Callable[["Store | Room"], Awaitable[ReadCapability]]


async def pinned(
    store: Store,
    encode: Encode,
    pinning: Pinning,
    *,
    size: Callable[[int], int | None],
    may_repeat: bool,
) -> ReadCapability:
    """Encode into a store under a pin; `size` counts the bytes there are, for a worker thread.

    It is given the room there is, and returns None where they fit for sure, or nobody can tell.

    `encode` is called with what blocks are put into, maybe twice. `may_repeat`: whether it can be
    called again after it has put all: where the store was restarted, some of that may have gone.
    Raises: StoreFull, if there is no room for it; PinLost; whatever `encode` raises.
    """
    if not pinning.holds:
        return await encode(store)
    from kapla.pinning import PinNotWhole, Pins
    from kapla.pins import default_name

    taker = await store.taker()
    pins = Pins(taker)
    try:
        pin = await _opened(pins, taker, encode, size)
    except PinsUnsupported as error:
        capability = await encode(store)
        say(pinning.instead(error, taker.url))
        return capability
    async with pin:
        capability = await encode(taker)
        root = capability.root.reference
        lend = pinning.pin and await is_lent(pins, default_name(root))
        try:
            is_lent_now = await pinning.settle(pin, root, lend=lend)
        except PinNotWhole as error:
            if not pin.was_begun_anew:
                raise
            if not may_repeat:
                raise PinLost(
                    f"the store was restarted, and not all that it had is there: {error}; run this"
                    " again, and only that is sent"
                ) from error
            await encode(taker)
            is_lent_now = await pinning.settle(pin, root, lend=lend)
        if not is_lent_now:
            say_not_lent(taker)
    return capability


def say_not_lent(store: RemoteStore) -> None:
    """The store has switched it off."""
    say(f"not lent: {store.url} lends nothing that is not pinned")


async def is_lent(pins: Pins, name: str) -> bool:
    """Whether the pin of this name, which another is about to replace, is lent: it stays so."""
    before = await pins.find(name)
    return before is not None and before.lend


async def _opened(
    pins: Pins, store: Store, encode: Encode, size: Callable[[int], int | None]
) -> OpenPin:
    """An open pin, with room for what is to come as far as that is known."""
    pin = await pins.open()
    try:
        expected = await in_thread(size, pin.room)
    except BaseException:
        await pin.abandon()
        raise
    if expected is None or expected <= pin.room:
        return pin
    await pin.abandon()
    try:
        return await pins.open(expected)
    except StoreFull as error:
        # Some of it may be there already.
        return await _tried(pins, store, encode, error)


async def _tried(pins: Pins, store: Store, encode: Encode, error: StoreFull) -> OpenPin:
    """An open pin, if there is room for what is not in the store yet.

    Raises: the error, if there is not.
    """
    pin = await pins.open()
    try:
        room = Room(store, pin.room, error)
        await encode(room)
        await room.settle()
    except BaseException:
        await pin.abandon()
        raise
    return pin
