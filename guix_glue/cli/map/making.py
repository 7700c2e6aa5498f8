"""From items to a map in a file: what is known is taken, the rest encoded, the map written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from eris.errors import ErisError
from eris.threads import in_thread
from guix_glue.cli.map.output import write
from guix_glue.cli.map.workers import PIN_PREFIX, workers
from guix_glue.formats.item_map import Contents, MapFacts, entry_of
from guix_glue.maps.building import Item, NotEncoded, encode_all
from guix_glue.maps.journal import Journal
from guix_glue.maps.opened import open_map
from guix_glue.publish.tree_formats import TreeFormat
from kapla.cli.common import CommandError, ExitCode, Progress, connect, progress
from kapla.cli.quiet import is_watched
from kapla.cli.store import say
from kapla.errors import PinsUnsupported
from kapla.pinning import Pins

__all__ = ["Making", "make_map"]

_SAID: Final = 10
"""Items that are left out and named one by one; of more it is said how many."""


@dataclass(frozen=True, slots=True)
class Making:
    """What is to be made of items, and where; `store_url` is None if no block is to be kept."""

    out: str
    form: str | None
    trees: TreeFormat
    store_dir: str
    store_url: str | None = field(repr=False)
    lend: bool
    workers: int
    again: bool
    force: bool


async def make_map(making: Making, items: Sequence[Item]) -> int:
    """Make a map of items; returns how many are left out.

    Raises: CommandError, JournalInUse, StoreError, OSError.
    """
    facts = MapFacts(making.store_dir, making.trees.name)
    urns = await _known(making, facts, items)
    with _journal(making) as journal:
        if journal is not None:
            urns |= {
                one.hash_part: journal.known[one.hash_part]
                for one in items
                if one.hash_part in journal.known
            }
        kept = len(urns)
        left_out = await _encode(making, items, urns, journal)
        contents = Contents.of(facts, (entry_of(*one) for one in urns.items()))
        await write(making.out, making.form, contents, force=True)
        if journal is not None:
            journal.remove()
    if kept and is_watched():
        say(f"{kept:,} of {len(items):,} items were known already; --again encodes these, too")
    return left_out


async def _known(making: Making, facts: MapFacts, items: Sequence[Item]) -> dict[str, str]:
    """The URNs that OUT has of items that did not change since.

    Raises: CommandError, if something else is there.
    """
    if making.out == "-" or not await in_thread(os.path.lexists, making.out):
        return {}
    try:
        before = await (await open_map(_path(making.out), lambda: None)).map.load()
    except (ErisError, OSError) as error:
        if making.force:
            return {}
        text = f"{making.out} is there and no map; --force replaces it"
        raise CommandError(text, ExitCode.FILE) from error
    if making.again or before.facts != facts:
        return {}
    written = (await in_thread(os.stat, making.out)).st_mtime
    same = [one for one in items if _changed(one) < written]
    if making.store_url is not None:
        stored = await _stored(making.store_url)
        same = [one for one in same if os.path.basename(one.location) in stored]
    found = ((one.hash_part, before.find(one.hash_part)) for one in same)
    return {hash_part: urn for hash_part, urn in found if urn is not None}


async def _stored(store_url: str) -> Set[str]:
    """Which items are whole in a store, by their names: those that an earlier run has pinned."""
    found = set()
    async with connect(store_url) as store:
        with suppress(PinsUnsupported):
            async for pin in Pins(await store.taker()).list():
                if pin.name.startswith(PIN_PREFIX) and not pin.missing:
                    found.add(pin.name.removeprefix(PIN_PREFIX))
    return found


def _path(out: str) -> str:
    """OUT as a path, whatever it begins with."""
    return out if out.startswith("/") else f"./{out}"


def _changed(item: Item) -> float:
    """When an item was put where it is; its times of modification are all the same."""
    try:
        return os.lstat(item.location).st_ctime
    except OSError:
        return float("inf")


@contextmanager
def _journal(making: Making) -> Iterator[Journal | None]:
    """What is done is noted beside OUT, so that whatever interrupts it, the next run goes on."""
    if making.out == "-":
        yield None
        return
    path = Path(f"{making.out.rstrip('/')}.partial")
    # Blocks that are in no store are not done for one.
    where = "" if making.store_url is None else " stored"
    with Journal.opened(path, f"{making.trees.name}{where}") as journal:
        yield journal


async def _encode(
    making: Making, items: Sequence[Item], urns: dict[str, str], journal: Journal | None
) -> int:
    """Encode what has no URN yet, and add it; returns how many have none in the end."""
    left = [one for one in items if one.hash_part not in urns]
    total = sum(one.size for one in left)
    with progress(f"Encoding {len(left):,} items", total or None) as shown:
        done = _Done(urns, journal, shown)
        if left:
            count = min(making.workers, len(left))
            async with workers(count, making.trees, making.store_url, lend=making.lend) as encoders:
                await encode_all(left, encoders, done)
    if done.left_out > _SAID:
        say(f"skipped {done.left_out - _SAID} more items")
    return done.left_out


def _size_of(location: str) -> int:
    """The bytes of all files of an item, as far as they can be looked at."""
    files = [os.path.join(at, name) for at, _, names in os.walk(location) for name in names]
    size = 0
    for file in files or [location]:
        with suppress(OSError):
            size += os.lstat(file).st_size
    return size


class _Done:
    """Takes the results as they come."""

    def __init__(self, urns: dict[str, str], journal: Journal | None, shown: Progress) -> None:
        self.left_out = 0
        self._urns = urns
        self._journal = journal
        self._shown = shown
        self._items = self._bytes = 0
        self._is_watched = is_watched()

    def __call__(self, item: Item, result: str | NotEncoded) -> None:
        self._items += 1
        self._bytes += item.size or (_size_of(item.location) if self._is_watched else 0)
        self._shown.reach(self._items, self._bytes)
        if isinstance(result, NotEncoded):
            self.left_out += 1
            if self.left_out <= _SAID:
                say(f"skipped {item.hash_part}: {result}")
            return
        self._urns[item.hash_part] = result
        if self._journal is not None:
            self._journal.note(item.hash_part, result)
