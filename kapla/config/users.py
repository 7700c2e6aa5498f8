"""Users of this machine, by their names or numbers."""

from __future__ import annotations

import pwd
import re
from dataclasses import dataclass

from kapla.guessing import meant

__all__ = ["User", "parse_users"]

_MOST = 64
_NUMBER = re.compile(r"[0-9]{1,10}")
_LARGEST = 2**32 - 2


@dataclass(frozen=True, slots=True)
class User:
    """One of them."""

    name: str
    """As it was given."""
    uid: int

    def __str__(self) -> str:
        return self.name


def parse_users(value: object) -> tuple[User, ...]:
    """Read a list of names and numbers, or a text with spaces between them.

    Raises: ValueError, also for a name that nobody has.
    """
    given = value.split() if isinstance(value, str) else value
    if not isinstance(given, list) or not all(type(one) in (int, str) for one in given):
        raise ValueError("a list of users is expected, by name or number")
    if len(given) > _MOST:
        raise ValueError(f"{len(given)} users; there may be {_MOST}")
    return tuple(map(_user, given))


def _user(given: int | str) -> User:
    text = str(given)
    if _NUMBER.fullmatch(text):
        if int(text) > _LARGEST:
            raise ValueError(f"{text} is no number of a user")
        return User(text, int(text))
    if not text or "\0" in text:
        raise ValueError("a user has a name or a number")
    try:
        return User(text, pwd.getpwnam(text).pw_uid)
    except KeyError:
        guess = meant(text, [user.pw_name for user in pwd.getpwall()])
        raise ValueError(f"there is no user {text!r}{guess}") from None
