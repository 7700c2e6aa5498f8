"""Names of which something is believed for a while, in memory: so many, the newest."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Remembered"]

_Name = TypeVar("_Name", bound=Hashable)


class Remembered(Generic[_Name]):
    """So many names at most, each for `keep_s` seconds after it was added last."""

    def __init__(self, keep_s: float, *, length: int) -> None:
        self._keep_s = keep_s
        self._length = length
        # Name -> time of the loop until which it is believed.
        self._until: OrderedDict[_Name, float] = OrderedDict()

    def __contains__(self, name: _Name) -> bool:
        return asyncio.get_running_loop().time() < self._until.get(name, float("-inf"))

    def add(self, name: _Name) -> None:
        """Believe it from now on."""
        self._until[name] = asyncio.get_running_loop().time() + self._keep_s
        self._until.move_to_end(name)
        if len(self._until) > self._length:
            self._until.popitem(last=False)
