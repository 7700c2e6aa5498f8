"""What `kapla lend` and `kapla unpin` share: doing something to each of the pins that are named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, ParamSpec, TypeVar

import click

from eris.model import Reference
from kapla.cli.common import CommandError, connect, run
from kapla.cli.named import with_at
from kapla.cli.pin_names import read_which
from kapla.errors import PinNotFound
from kapla.pinning import Pins
from kapla.pins import PinSummary

__all__ = ["change_each", "owner_option"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_NO_UID: Final = 2**32 - 1

Change = Callable[[Pins, str | Reference, int | None], Awaitable[PinSummary]]


def owner_option(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `--owner`: whose pins are meant; the command gets a uid, or None."""
    return click.option(
        "--owner",
        metavar="USER",
        callback=_read_owner,
        help="A pin of this user's, a name or a number: for root, and whoever runs the daemon.",
    )(command)


def _read_owner(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    import pwd

    if text is None:
        return None
    if text.isascii() and text.isdigit() and int(text[:11]) < _NO_UID:
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise click.BadParameter(f"there is no user {text}.") from None


def change_each(
    texts: Sequence[str],
    change: Change,
    store_url: str | None,
    *,
    owner: int | None,
    hint: str = "",
) -> None:
    """Do it to each of the arguments NAME|URN; `hint` is what to do where there is no such pin.

    `owner`: whose pins are meant, if not ours.

    Raises: CommandError, at the first of which there is none.
    """
    which = [read_which(text) for text in texts]

    async def change_all() -> None:
        async with connect(store_url) as store:
            pins = Pins(await store.taker())
            for number, one in enumerate(which, 1):
                try:
                    await change(pins, one, owner)
                except PinNotFound:
                    text = _not_found(one, number, len(which), owner)
                    raise CommandError(text + (_meant(one) or hint)) from None

    run(change_all())


def _not_found(which: str | Reference, number: int, count: int, owner: int | None) -> str:
    whose = "it is not yours" if owner is None else "you may not change pins of that user"
    if isinstance(which, str):
        return f"there is no pin {which} here, or {whose}"
    place = f"argument {number}" if count > 1 else "this URN"
    return f"no pin here is of {place}, or {whose}"


def _meant(which: str | Reference) -> str:
    """A question for who has left out an @."""
    named = with_at(which) if isinstance(which, str) else None
    return f"; is {named} meant, from the catalogue?" if named else ""
