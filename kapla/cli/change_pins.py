"""What `kapla lend` and `kapla unpin` share: doing something to each of the pins that are named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from eris.model import Reference
from kapla.cli.common import CommandError, connect, run
from kapla.cli.pin_names import read_which
from kapla.errors import PinNotFound
from kapla.pinning import Pins, PinSummary

__all__ = ["change_each"]

Change = Callable[[Pins, str | Reference], Awaitable[PinSummary]]


def change_each(
    texts: Sequence[str], change: Change, store_url: str | None, *, hint: str = ""
) -> None:
    """Do it to each of the arguments NAME|URN; `hint` is what to do where there is no such pin.

    Raises: CommandError, at the first of which there is none.
    """
    which = [read_which(text) for text in texts]

    async def change_all() -> None:
        async with connect(store_url) as store:
            pins = Pins(await store.taker())
            for number, one in enumerate(which, 1):
                try:
                    await change(pins, one)
                except PinNotFound:
                    raise CommandError(_not_found(one, number, len(which)) + hint) from None

    run(change_all())


def _not_found(which: str | Reference, number: int, count: int) -> str:
    if isinstance(which, str):
        return f"there is no pin {which} here, or it is not yours"
    place = f"argument {number}" if count > 1 else "this URN"
    return f"no pin here is of {place}, or it is not yours"
