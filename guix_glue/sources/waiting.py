"""Whom a source makes us wait for, when that is in vain, and what is said of it. Pure.

What is left alone for a while is not a source but whoever did not answer: the store of blocks, or a
host.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from eris.errors import ErisError, StoreUnavailable
from guix_glue.errors import NoConnection
from guix_glue.servers.nars import NarSource
from guix_glue.servers.url import origin_of
from guix_glue.servers.watch import TooSlow
from guix_glue.sources.order import Source

__all__ = ["BLOCKS", "let_us_wait", "reason_of_failure", "whom"]

BLOCKS: Final = "blocks"
"""Whom all sources wait for that are in the store of blocks."""


def whom(source: Source) -> Hashable:
    """Whom we wait for: a host (None: this machine), or the store of blocks."""
    return origin_of(source.url) if isinstance(source, NarSource) else BLOCKS


def let_us_wait(source: Source, error: Exception) -> bool:
    """Whether the next item would wait for it again, or for nothing."""
    if not isinstance(source, NarSource) and isinstance(error, StoreUnavailable):
        return True
    if isinstance(error, NoConnection):
        return True
    return isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)


def reason_of_failure(error: Exception) -> str:
    """Why a source failed, for people."""
    if isinstance(error, TooSlow):
        return str(error)
    if isinstance(error, TimeoutError):
        return "nothing comes any more"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, ErisError) else type(error).__name__
