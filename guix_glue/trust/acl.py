"""The access list of Guix: whose signatures a machine accepts, for what.

A file that is missing counts as an empty list; that, and where it is, is the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from guix_glue.errors import InvalidExpression, InvalidKey
from guix_glue.formats.expression import Expression, find, format_advanced, parse
from guix_glue.trust.keys import PublicKey

__all__ = ["EMPTY_ACL", "LARGEST_ACL", "Acl", "authorize"]

EMPTY_ACL = b"(acl)\n"
"""The file of an access list that authorizes nobody."""

LARGEST_ACL: Final = 4 * 1024 * 1024
"""Bytes of its file: room for more than ten thousand keys."""

_IMPORT: Expression = (b"guix", b"import")


@dataclass(frozen=True, slots=True)
class Acl:
    """The keys, as expressions, whose items may be imported."""

    keys: frozenset[Expression] = frozenset()

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read an access list. Entries for other things than importing count for nothing.

        Raises: InvalidKey.
        """
        entries = _entries(text)
        return cls(frozenset(key for entry in entries for key in _imported(entry)))

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
