"""What is asked about pins, as far as it can be wrong: names, which are meant, pages. Pure."""

from __future__ import annotations

from eris.model import Reference
from kapla import pins
from kapla.errors import RequestMalformed
from kapla.storage.pins import PinChoice

__all__ = ["check_name", "choice_of", "parse_after"]


def check_name(name: str) -> None:
    """Whether a pin may be called so. Raises: RequestMalformed."""
    try:
        pins.check_name(name)
    except ValueError as error:
        raise RequestMalformed(str(error)) from None


def parse_after(after: str | None, owner: int | None) -> tuple[int, str]:
    """Where a page begins, from what the page before it ended with.

    Raises: RequestMalformed.
    """
    if after is None:
        return (-1 if owner is None else owner), ""
    number, colon, name = after.partition(":")
    if not colon or not number.isascii() or not number.isdigit() or len(number) > 10:
        raise RequestMalformed("that is not where a list of pins goes on")
    return int(number), name


def choice_of(owner: int, name: str | None, root: Reference | None) -> PinChoice:
    """The pins that are meant. Raises: RequestMalformed."""
    if (name is None) == (root is None):
        raise RequestMalformed("either the name or the root of a pin is expected")
    if name is not None:
        check_name(name)
    return PinChoice(owner, name, root)
