"""What can be wrong with what Guix, Nix, their servers and their files say.

Errors carry the facts as attributes and make their own message. No message holds a private key, a
read capability or a store URL.
"""

from __future__ import annotations

from typing import ClassVar

from eris.errors import ErisError

__all__ = [
    "CompressionError",
    "DaemonError",
    "DamagedItem",
    "DatabaseError",
    "FetchFailed",
    "GuixError",
    "HashMismatch",
    "InvalidEncoding",
    "InvalidExpression",
    "InvalidFacts",
    "InvalidItems",
    "InvalidKey",
    "InvalidNar",
    "InvalidNarinfo",
    "InvalidStorePath",
    "NoConnection",
    "NotAuthorized",
    "NotBaked",
    "ProtocolError",
    "PublishError",
    "SignatureRejected",
    "StillHashing",
    "TemporaryFailure",
    "UnsupportedItem",
    "reason_of",
]


class GuixError(ErisError):
    """Base of all errors raised by `guix_glue`.

    `exit_code` is what `kapla` ends with: see its help.
    """

    exit_code: ClassVar[int] = 5


class InvalidEncoding(GuixError, ValueError):
    """The text is no nix-base32, or not of the length that it should have."""


class InvalidStorePath(GuixError, ValueError):
    """The text is no path, base name or hash part of an item in this store."""

    exit_code = 2

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"not a store path: {text[:300]!r}: {reason}")
        self.text = text
        self.reason = reason


class InvalidNar(GuixError):
    """The bytes are no nar in canonical form. `offset` is where that shows."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"not a valid nar (at byte {offset}): {reason}")
        self.reason = reason
        self.offset = offset


class CompressionError(GuixError):
    """A compressed nar is damaged, cut off, or asks for more memory than it may."""


class InvalidNarinfo(GuixError):
    """The text is no narinfo that may be used. `line` counts from 1."""

    def __init__(self, reason: str, *, line: int | None = None, field: str | None = None) -> None:
        where = f" (line {line})" if line is not None else ""
        what = f"{field}: " if field is not None else ""
        super().__init__(f"not a valid narinfo{where}: {what}{reason}")
        self.reason = reason
        self.line = line
        self.field = field


class InvalidExpression(GuixError):
    """The bytes are no s-expression. `offset` is where that shows."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"not a valid s-expression (at byte {offset}): {reason}")
        self.reason = reason
        self.offset = offset


class InvalidKey(GuixError, ValueError):
    """The text is no key of the kind that is wanted. The message does not show it."""

    exit_code = 2


class SignatureRejected(GuixError):
    """A narinfo is not signed, or not by a key that is authorized, or not with this text."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"signature rejected: {reason}")
        self.reason = reason


class NotAuthorized(SignatureRejected):
    """Nobody who is authorized signed a narinfo. Nothing else is wrong with it."""


class DaemonError(GuixError):
    """The Guix daemon answered a request with an error, or cannot be reached."""

    exit_code = 3

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class DatabaseError(GuixError):
    """The store's database cannot be read, or is laid out in a way that is not known."""

    exit_code = 3


class ProtocolError(GuixError):
    """The other side says what the protocol does not know."""


class InvalidFacts(ProtocolError):
    """What is said of one item makes no sense; of others it may."""


class InvalidItems(GuixError):
    """A directory of items, or the table that describes it, cannot be used."""

    exit_code = 2


class StillHashing(GuixError):
    """Whether there is an item shows when a directory's entries are hashed: ask again soon."""

    exit_code = 3

    def __init__(self) -> None:
        super().__init__("entries of the directory of items are still being hashed")


class NotBaked(GuixError):
    """An item could not be baked. `item` is its base name."""

    def __init__(self, item: str, reason: str) -> None:
        super().__init__(f"{item}: {reason}")
        self.item = item
        self.reason = reason


class DamagedItem(NotBaked):
    """The files of an item have another hash than the store says."""

    def __init__(self, item: str) -> None:
        super().__init__(
            item,
            "its files are not what the store says they are. It is not served from there until they"
            " are; guix gc --verify=contents,repair mends a store, and of Nix nix-store --verify"
            " --check-contents --repair",
        )


class PublishError(GuixError):
    """The publisher cannot start: a key file, the cache directory, a socket, a user."""

    exit_code = 1


class UnsupportedItem(GuixError):
    """A store item holds what a nar cannot express, or changed while it was read."""

    exit_code = 7

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class FetchFailed(GuixError):
    """One source did not bring an item; another one may."""

    exit_code = 4


class HashMismatch(FetchFailed):
    """What came is not what was signed. Both are SHA-256 of the nar, 32 bytes."""

    def __init__(self, expected: bytes, actual: bytes) -> None:
        # Loaded only here: its errors are ours.
        from guix_glue.formats.nixbase32 import encode

        super().__init__(
            f"the hash of what came is {encode(actual)} and should be {encode(expected)}"
        )
        self.expected = expected
        self.actual = actual


class TemporaryFailure(FetchFailed):
    """A source may do better in a moment; `pause_s` is how long it asks to wait, if it does."""

    def __init__(self, message: str, pause_s: float | None = None) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class NoConnection(TemporaryFailure):
    """A source is not there at all, or whatever leads to it."""


def reason_of(error: Exception) -> str:
    """What went wrong, for people: the system's words, else the error's own, else its kind."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
