"""Who may run a seed: whoever poses as one would see what everybody wants."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final

__all__ = ["may_seed"]

_ROOT: Final = 0


def may_seed(uid: int, users: Collection[int]) -> bool:
    """Whether a user may; root and whoever runs the daemon see all of it anyway."""
    return uid in (_ROOT, os.geteuid()) or uid in users
