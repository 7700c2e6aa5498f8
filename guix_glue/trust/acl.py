"""The access list of Guix: whose signatures a machine accepts, for what.

A file that is missing counts as an empty list; that, and where it is, is the caller's business. An
entry that is none authorizes nobody, and leaves the others as they are; a text that is no list at
all authorizes nobody either, and is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from guix_glue.errors import InvalidExpression, InvalidKey
from guix_glue.formats.expression import Expression, find, format_advanced, parse
from guix_glue.trust.keys import PublicKey

__all__ = ["EMPTY_ACL", "LARGEST_ACL", "Acl", "authorize"]

EMPTY_ACL = b"(acl)\n"
"""The file of an access list that authorizes nobody."""

LARGEST_ACL: Final = 4 * 1024 * 1024
"""Bytes of its file: room for more than ten thousand keys."""

_SHOWN: Final = 5

_IMPORT: Expression = (b"guix", b"import")


@dataclass(frozen=True, slots=True)
class Acl:
    """The keys, as expressions, whose items may be imported.

    `left_out` are the numbers, from 1, of entries that are none.
    """

    keys: frozenset[Expression] = frozenset()
    left_out: tuple[int, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read an access list. Entries for other things than importing count for nothing.

        Raises: InvalidKey, if it is no list, or one of nothing but entries that are none.
        """
        keys: set[Expression] = set()
        left_out = []
        entries = _entries(text)
        for number, entry in enumerate(entries, 1):
            try:
                keys.update(_imported(entry))
            except InvalidKey:
                left_out.append(number)
                if len(left_out) == len(entries):
                    raise
        return cls(frozenset(keys), tuple(left_out))

    @property
    def remark(self) -> str | None:
        """What to tell of entries that are none, if there are any, in a line."""
        if not self.left_out:
            return None
        some = ", ".join(map(str, self.left_out[:_SHOWN])) + (
            ", …" if len(self.left_out) > _SHOWN else ""
        )
        return f"left out, for having no public key: entry {some}"

    def authorizes(self, key: PublicKey) -> bool:
        """Whether what this key signed may be imported."""
        return key.to_expression() in self.keys


def authorize(text: bytes, key: PublicKey) -> bytes:
    """Add a key to an access list, given as the bytes of its file; all else in it stays.

    Raises: InvalidKey.
    """
    entries = _entries(text)
    if not Acl.parse(text).authorizes(key):
        entries = (*entries, (b"entry", key.to_expression(), (b"tag", _IMPORT)))
    return format_advanced((b"acl", *entries))


def _entries(text: bytes) -> tuple[Expression, ...]:
    try:
        expression = parse(text)
    except InvalidExpression as error:
        raise InvalidKey(f"the access list is no s-expression: {error}") from error
    if not isinstance(expression, tuple) or expression[:1] != (b"acl",):
        raise InvalidKey("this is no access list")
    return expression[1:]


def _imported(entry: Expression) -> list[Expression]:
    key, tag = find(entry, b"public-key"), find(entry, b"tag")
    if not isinstance(entry, tuple) or entry[:1] != (b"entry",) or key is None:
        raise InvalidKey("an entry of the access list has no public key")
    return [key] if tag is not None and tag[1:] == (_IMPORT,) else []
