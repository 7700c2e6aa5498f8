"""Keeps the index as the trees are: what is new is read, what is gone is dropped.

One thread does it, that lets others go first. It can be ended at any moment: what was written is
done, and of a large tree the parts that were. What failed is tried again, after longer and longer.

Plain synchronous code, for that thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from blake3 import blake3

from eris_fs import TreeError
from guix_glue.seed.encoding import encode_files, encode_index
from guix_glue.seed.errors import DamagedIndex, NotSeeded
from guix_glue.seed.index import SeedIndex
from guix_glue.seed.listing import Fresh, Known, list_tree, plan
from guix_glue.seed.parts import SMALL_TREE, Listed, Part, entries_of
from guix_glue.seed.registered import is_registered
from guix_glue.seed.trees import SeedTree
from guix_glue.servers.complaints import Complaints

__all__ = ["Indexer", "Progress"]

_log = logging.getLogger(__name__)

# What was read is written at the latest after so long: that is what a crash costs.
_WRITE_S: Final = 20.0
_FIRST_PAUSE_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 24 * 3600.0
_COMPLAINTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: trees that are done, left and failed; what this process has read."""

    done: int = 0
    left: int = 0
    failed: int = 0
    read_bytes: int = 0
    read_s: float = 0.0


@dataclass(slots=True)
class _Failure:
    """A tree that cannot be seeded: what it was, when it is tried again, why."""

    identity: bytes
    again_at: float
    pause_s: float
    reason: str


@dataclass(slots=True)
class _Building:
    """A tree that is being brought into the index: its parts so far, by their numbers."""

    tree: SeedTree
    identity: bytes
    parts: dict[int, Part] = field(default_factory=dict)


class Indexer:
    """Keeps `index`; `on_dropped` is told the numbers of parts that are dropped."""

    def __init__(
        self,
        index: SeedIndex,
        *,
        on_dropped: Callable[[Sequence[int]], None] = lambda numbers: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index = index
        self._on_dropped = on_dropped
        self._clock = clock
        self._stop = threading.Event()
        self._failures: dict[str, _Failure] = {}
        self._complaints = Complaints(_log, length=_COMPLAINTS)
        self._written_at = clock()
        # Parts that others, which are not written yet, stand in for.
        self._replaced: list[int] = []
        self._read_bytes = 0
        self._read_s = 0.0
        self.progress = Progress()

    def stop(self) -> None:
        """End what is done; by any thread."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether it was told to end."""
        return self._stop.is_set()

    @property
    def failures(self) -> Mapping[str, str]:
        """Why trees are not seeded, by their roots."""
        return {root: failure.reason for root, failure in self._failures.items()}

    def keep_only(self, trees: Sequence[SeedTree]) -> None:
        """Drop what is of no tree of these any more, or of one that is another now."""
        wanted = {tree.root: tree.identity for tree in trees}
        view = self._index.view
        gone: list[int] = []
        for root, numbers in view.roots.items():
            identity = wanted.get(root)
            if identity is None:
                gone += numbers
            elif identity:
                gone += (one for one in numbers if view.parts[one].row.identity != identity)
        for root, number in view.packed.items():
            # Only of what is of a store, and has an identity, it is known how it was packed.
            if wanted.get(root) != view.parts[number].row.identity:
                gone.append(number)
        self._drop(gone)
        for root in [root for root in self._failures if root not in wanted]:
            del self._failures[root]

    def update(self, trees: Sequence[SeedTree]) -> None:
        """Bring the index up to date, tree by tree.

        Raises: IndexNotWritten.
        """
        closed = self._index.view.closed
        to_do = [tree for tree in trees if not (tree.identity and tree.root in closed)]
        done = len(trees) - len(to_do)
        for number, tree in enumerate(to_do):
            if self.stopped:
                break
            self._tell(done + number, len(to_do) - number)
            if self._may_try(tree):
                self._try(tree)
            if self._clock() - self._written_at >= _WRITE_S:
                self._write()
        self._write()
        closed = self._index.view.closed
        done = sum(tree.root in closed for tree in trees)
        self._tell(done, len(trees) - done - len(self._failures) if self.stopped else 0)
        while not self.stopped and self._index.tidy(at_rest=True):
            pass

    def _tell(self, done: int, left: int) -> None:
        self.progress = Progress(done, left, len(self._failures), self._read_bytes, self._read_s)

    # one tree

    def _may_try(self, tree: SeedTree) -> bool:
        failure = self._failures.get(tree.root)
        if failure is None or failure.identity != tree.identity:
            return True
        return self._clock() >= failure.again_at

    def _try(self, tree: SeedTree) -> None:
        before = self._failures.get(tree.root)
        try:
            self._read(tree)
        except (TreeError, NotSeeded) as error:
            self._fail(tree, before, str(error))
        except OSError as error:
            self._fail(tree, before, error.strerror or str(error))
        else:
            if self._failures.pop(tree.root, None):
                self._complaints.withdraw(tree.root)

    def _fail(self, tree: SeedTree, before: _Failure | None, reason: str) -> None:
        pause_s = _FIRST_PAUSE_S if before is None else min(2 * before.pause_s, _LONGEST_PAUSE_S)
        again_at = self._clock() + pause_s
        self._failures[tree.root] = _Failure(tree.identity, again_at, pause_s, reason)
        self._complaints.say(tree.root, f"{tree.root} is not seeded: {reason}")

    def _read(self, tree: SeedTree) -> None:
        """Bring one tree into the index.

        Raises: TreeError, NotSeeded, OSError, IndexNotWritten.
        """
        if tree.identity and not is_registered(tree.root, tree.identity, lambda: self.stopped):
            return
        # An item of a store does not change; of a file of it only the times do.
        listing = list_tree(tree.root, stamped=not tree.identity, stopped=lambda: self.stopped)
        if listing is None:
            return
        view = self._index.view
        building = _Building(tree, tree.identity or _digest(listing))
        closing = view.closed.get(tree.root)
        if closing is not None and view.parts[closing].row.identity == building.identity:
            return
        old = self._old_parts(view.roots.get(tree.root, ()))
        *steps, last = plan(listing, [Known(one, part.entries) for one, part in old.items()])
        for step in steps:
            if isinstance(step, Known):
                building.parts[step.number] = old[step.number]
            elif not self._make(building, step.entries):
                return
        assert isinstance(last, Fresh)
        if self._make(building, last.entries, closes=True):
            # Not before the new ones are on disk.
            unused = set(view.roots.get(tree.root, ())).difference(building.parts)
            self._replaced += unused

    def _old_parts(self, numbers: Sequence[int]) -> dict[int, Part]:
        """Parts that may be used again: all but one that closed the tree as it was."""
        found = {}
        for number in numbers:
            held = self._index.view.parts.get(number)
            if held is None or held.row.closes:
                continue
            try:
                found[number] = held.read()
            except DamagedIndex as error:
                self._index.reject(held.segment, error)
        return found

    def _make(
        self, building: _Building, entries: tuple[Listed, ...], *, closes: bool = False
    ) -> bool:
        """Read and add a part; False if it was stopped."""
        root = building.tree.root
        began = self._clock()
        encoded = encode_files(root, entries, lambda: self.stopped)
        self._read_bytes += sum(one.size for one in entries)
        self._read_s += self._clock() - began
        if encoded is None:
            return False
        number = self._index.new_number()
        identity = building.identity if closes else building.tree.identity
        members = tuple(building.parts) if closes else None
        part = Part(root, entries, bytes(encoded.roots), members, identity)
        building.parts[number] = part
        references = encoded.references
        if closes:
            entries_of_all = {}
            for one in building.parts.values():
                entries_of_all.update(entries_of(one))
            references = [*references, *encode_index(entries_of_all)]
            if not members and sum(one.size for one in entries) <= SMALL_TREE:
                part = replace(part, pairs=b"")
        self._index.add(number, part, references, bytes(encoded.pairs))
        if self._clock() - self._written_at >= _WRITE_S:
            self._write()
        return True

    # the index

    def _write(self) -> None:
        self._index.flush()
        self._written_at = self._clock()
        replaced, self._replaced = self._replaced, []
        self._drop(replaced)
        self._index.tidy(at_rest=False)

    def _drop(self, numbers: Sequence[int]) -> None:
        if numbers:
            self._index.drop(numbers)
            self._on_dropped(numbers)


def _digest(listing: Sequence[Listed]) -> bytes:
    """What says that a tree is the same as before."""
    state = blake3()
    for one in listing:
        state.update(repr(one).encode("utf-8", "surrogateescape"))
    return state.digest()
