"""Faults to plant in the front ends of a database, to see that they are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final
from unittest.mock import patch

from kapla.storage.postgresql import session
from kapla.storage.postgresql.kept import KeptAmong

__all__ = ["FRONT_PLANTS"]


@contextmanager
def _no_wait() -> Iterator[None]:
    """Answered before the log is written: what a killed server loses."""
    careless = session._SETUP.replace(
        "('synchronous_commit', 'on')", "('synchronous_commit', 'off')"
    )
    with patch.object(session, "_SETUP", careless):
        yield


@contextmanager
def _drop_all() -> Iterator[None]:
    """What makes room does not look at pins."""
    with patch.object(KeptAmong, "look", lambda *_: True):
        yield


FRONT_PLANTS: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {
    "no-wait": _no_wait,
    "drop-all": _drop_all,
}
