"""Errors of the daemon, its client and its command line, beside those of `eris`."""

from __future__ import annotations

from pathlib import Path

from eris.errors import CorruptBlock, StoreRefused, StoreUnavailable

__all__ = [
    "CannotConnect",
    "ConfigError",
    "InvalidBlockList",
    "InvalidUrl",
    "KaplaError",
    "ListenError",
    "NoStore",
    "NotAllowed",
    "PinIncomplete",
    "PinLost",
    "PinNotFound",
    "PinsUnsupported",
    "RequestMalformed",
    "StorageError",
    "StoreSilent",
    "UnknownAnswer",
    "WrongBlock",
]


class KaplaError(Exception):
    """Base of the errors of `kapla`."""


class ConfigError(KaplaError):
    """A setting is wrong: the message names where it stands and what it should be."""


class InvalidUrl(ConfigError, ValueError):
    """Not a store or listener URL that Kapla understands.

    The URL itself is not repeated: its path may be a capability.
    """


class NoStore(InvalidUrl):
    """The configuration says that there is no store, and one is needed."""


class InvalidBlockList(KaplaError, ValueError):
    """A file is no list of blocks, or is cut off."""


class CannotConnect(StoreUnavailable):
    """Nothing answers where a store should be; `reason` is why, `number` the `errno`, if known.

    `socket` is the path of the Unix socket, None for TCP.
    """

    def __init__(
        self, where: str, reason: str, *, number: int | None = None, socket: Path | None = None
    ) -> None:
        super().__init__(f"cannot connect to {where}: {reason}")
        self.reason = reason
        self.number = number
        self.socket = socket


class StoreSilent(StoreUnavailable):
    """A store took requests and did not answer in time."""


class NotAllowed(StoreRefused):
    """The store does not let this client do this: CoAP's 4.03 and 4.05."""


class RequestMalformed(StoreRefused):
    """The store calls the request wrong: CoAP's 4.00."""


class PinNotFound(StoreRefused):
    """There is no such pin, or it is somebody else's."""


class PinIncomplete(StoreRefused):
    """Blocks of a pin are not in the store; `missing` is how many."""

    def __init__(self, missing: int) -> None:
        blocks = "1 block is" if missing == 1 else f"{missing:,} blocks are"
        super().__init__(f"{blocks} missing")
        self.missing = missing


class PinLost(StoreUnavailable):
    """The store has given up an open pin: what it held may go."""


class PinsUnsupported(StoreRefused):
    """The store has no pins, or none for us: another program's, or not allowed here."""


class UnknownAnswer(StoreUnavailable):
    """The store answered with a code that says nothing to us here; `code` is it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class ListenError(KaplaError):
    """A listener cannot be opened."""


class StorageError(KaplaError):
    """The database cannot be opened or is not one of ours."""


class WrongBlock(CorruptBlock):
    """What a server gave for a reference is not its block; `source` is who, for people."""

    def __init__(
        self,
        reference: bytes,
        source: str,
        *,
        size: int | None = None,
        expected_size: int | None = None,
    ) -> None:
        super().__init__(reference, size=size, expected_size=expected_size)
        self.args = (f"{source}: {self.args[0]}",)
        self.source = source
