"""Which items a delta may lead from: those of the same name that users are likely to have. Pure.

People upgrade from an older version, and from an earlier build of the same one. So the bases of an
item are the items of its package, and of its output, with a lower version, or with the same version
and baked before; the newest first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from guix_glue.formats.package_name import PackageName, parse_package_name, version_key

__all__ = ["Bases"]

_MOST_IN_ALL: Final = 200_000
"""Some 350 bytes each: a build farm builds a quarter as many packages."""
_MOST_ITEMS: Final = 32
"""Of a package, the newest: many more than there may be deltas."""


class _Known(NamedTuple):
    """An item, sorted by what is newer; `baked_at` in seconds of the epoch."""

    version: Any
    baked_at: float
    base_name: str


class Bases:
    """Items that were baked, by the names of their packages.

    If they are more than `most`, packages go of which nothing was baked for longest.
    """

    def __init__(self, *, most: int = _MOST_IN_ALL) -> None:
        self._most = most
        self._count = 0
        self._packages: OrderedDict[tuple[str, str], list[_Known]] = OrderedDict()

    def add(self, base_name: str, baked_at: float) -> None:
        """Note an item, once it was seen to be what its store says."""
        name = _name_of(base_name)
        items = self._packages.setdefault(_key(name), [])
        self._packages.move_to_end(_key(name))
        before = len(items)
        if not any(one.base_name == base_name for one in items):
            insort(items, _Known(version_key(name.version), baked_at, base_name))
            del items[:-_MOST_ITEMS]
        self._count += len(items) - before
        while self._count > self._most:
            _, oldest = self._packages.popitem(last=False)
            self._count -= len(oldest)

    def forget(self, base_name: str) -> None:
        """An item is no base any more."""
        key = _key(_name_of(base_name))
        items = self._packages.get(key, [])
        before = len(items)
        items[:] = [one for one in items if one.base_name != base_name]
        self._count += len(items) - before
        if not items:
            self._packages.pop(key, None)

    def before(self, base_name: str, baked_at: float) -> Iterator[str]:
        """The bases of an item, the newest first, by their base names."""
        name = _name_of(base_name)
        items = self._packages.get(_key(name), [])
        end = bisect_left(items, _Known(version_key(name.version), baked_at, ""))
        return (one.base_name for one in reversed(items[:end]) if one.base_name != base_name)


def _name_of(base_name: str) -> PackageName:
    return parse_package_name(base_name[33:])


def _key(name: PackageName) -> tuple[str, str]:
    return name.package, name.output
