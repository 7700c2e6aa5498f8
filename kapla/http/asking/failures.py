"""How a request of HTTP can fail, and what is said of it in one line.

What a server sends is never repeated: neither its reason phrases nor the places that it redirects
to, in which there may be anything. The path in a store URL may be a capability, and is not named.
"""

from __future__ import annotations

from eris.errors import StoreUnavailable

__all__ = ["Busy", "ConnectionLost", "NoBatch", "status_error", "wait_asked_for"]

_TRY_LATER = (429, 503)


class Busy(StoreUnavailable):
    """The server asks to be asked again in `after_s` seconds: 429 or 503 with Retry-After."""

    def __init__(self, source: str, after_s: float) -> None:
        super().__init__(f"{source} asks to be left alone for {after_s:.0f} s")
        self.after_s = after_s


class ConnectionLost(StoreUnavailable):
    """The connection ended before the answer did: another try may do."""


class NoBatch(StoreUnavailable):
    """The server has no batch: it is asked for one block at a time."""


def status_error(source: str, status: int, retry_after: str | None) -> StoreUnavailable:
    """What an answer means that gives nothing and is not about the block."""
    after_s = wait_asked_for(retry_after) if status in _TRY_LATER else None
    if after_s is not None:
        return Busy(source, after_s)
    from http import HTTPStatus

    try:
        phrase = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        phrase = ""
    return StoreUnavailable(f"{source} answers {status}{phrase}")


def wait_asked_for(retry_after: str | None) -> float | None:
    """How many seconds a Retry-After asks for, 0 at least; None: there is none that makes sense."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        # Whatever is longer is long enough.
        return float(text[:9])
    if not text:
        return None
    # Loaded where a server says when, which few do.
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        until = parsedate_to_datetime(text)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        # A year or an offset may have any number of digits.
        return None
