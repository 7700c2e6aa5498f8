"""Being somebody without a home: no variable names one, nor does the list of users."""

from __future__ import annotations

import pwd
from typing import NoReturn

import pytest

__all__ = ["become_nobody"]


def become_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no home for the rest of a test."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(pwd, "getpwuid", _unknown)


def _unknown(uid: int) -> NoReturn:
    raise KeyError(f"getpwuid(): uid not found: {uid}")
