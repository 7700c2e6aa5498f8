"""What may be told of what goes wrong on the network, in words; and which of it may pass.

The words name no URL: whoever tells them says of which server they are.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Final

from guix_glue.errors import FetchFailed, TemporaryFailure
from guix_glue.servers.proxies import Proxy

__all__ = ["PASSING", "retry_after_s", "status_failure", "system_words"]

PASSING: Final = frozenset({429, 500, 502, 503, 504})
"""The status of answers that may be others in a moment."""

# Where several addresses of a host fail in different ways, Python 3.11 tells them in a text only.
_ERRNO: Final = re.compile(r"\[Errno ([0-9]{1,5})\]")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def system_words(error: OSError) -> str:
    """What the system says, in its own words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "handshake failure").replace("_", " ").lower()
        return f"TLS fails: {reason}"
    if isinstance(error, socket.gaierror):
        return f"its name cannot be looked up: {error.strerror}"
    return f"connection failed: {_strerror(error)}"


def _strerror(error: OSError) -> str:
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    found = dict.fromkeys(int(number) for number in _ERRNO.findall(str(error)))
    return ", ".join(map(os.strerror, found)) or error.strerror or "connection lost"


def status_failure(
    status: int, retry_after: str, via: Proxy | None = None, *, tunnel: bool = False
) -> FetchFailed:
    """The error that an answer is which brings nothing; TemporaryFailure, if that may pass.

    `retry_after` is its header of that name. `via` is the proxy that gave the answer, which may be
    its own or the server's; `tunnel`, that it was asked for one.
    """
    who = "the server"
    if via is not None:
        who = via.shown if tunnel or status == 407 else f"{via.shown}, or the server,"
    words = f"{who} answers {status}"
    if status in PASSING:
        return TemporaryFailure(words, retry_after_s(retry_after))
    return FetchFailed(words)


def retry_after_s(value: str) -> float | None:
    """How long a header `Retry-After` asks to wait, in seconds; None if it does not say."""
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        return None
