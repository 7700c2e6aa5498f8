"""Blocks out of files: what a seed answers with.

A leaf is read, padded, encrypted, and compared with its whole reference before it goes out. A node
of a large file is made of the pairs that the index keeps, one of a small file by encoding that file
again, and a block of a tree's index by writing that index again: these take longer, and what comes
of them is held for a moment, as the next block that is wanted is likely to be among it.

A file that changed gives other blocks, or none: that is "not here", and is noted, so that the next
one of it costs nothing. What is not offered any more is not looked at.

For several threads at once.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from eris.crypto import encrypt_leaf_again, encrypt_leaves, encrypt_node
from eris.encode import Encoder
from eris.model import (
    KEY_SIZE,
    NULL_CONVERGENCE_SECRET,
    PAIR_SIZE,
    REFERENCE_SIZE,
    Reference,
    choose_block_size,
)
from eris.node import leaf_count, pad
from eris_fs import Entry, Path, TreeError
from guix_glue.errors import GuixError
from guix_glue.seed.encoding import encode_files, encode_index
from guix_glue.seed.errors import DamagedIndex
from guix_glue.seed.files import OpenFiles, read_at
from guix_glue.seed.index import Held, View
from guix_glue.seed.later import Later
from guix_glue.seed.loaded import LoadedPart, LoadedParts
from guix_glue.seed.made import MadeBlocks
from guix_glue.seed.making_packed import PackedMaker
from guix_glue.seed.packing import Packing
from guix_glue.seed.parts import (
    LARGE_FILE,
    OfIndex,
    Part,
    Place,
    entries_of,
    level_starts,
)
from guix_glue.seed.segment import Segment

__all__ = ["Maker", "Tally"]

_log = logging.getLogger(__name__)

_SECRET: Final = bytes(NULL_CONVERGENCE_SECRET)
# Places that are tried for one block: of a content that is there a thousand times some are enough.
_TRIES: Final = 8
_MOST_CHANGED: Final = 100_000
# It may have been for a moment only, as when an equal file is linked to another.
_NOTED_S: Final = 600.0
# What tells of this machine, and nothing of the file.
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EAGAIN})
# In the place of the number of a file, of which the first is 0.
_THE_INDEX: Final = -1


@dataclass(slots=True)
class Tally:
    """What was asked and given, since the start; blocks, and bytes of these."""

    asked: int = 0
    given: int = 0
    given_bytes: int = 0
    changed: int = 0
    """Files that were not what they were when they were listed."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, asked: int, blocks: Sequence[bytes | None]) -> None:
        """Count questions, and what was given."""
        given = [len(block) for block in blocks if block is not None]
        with self._lock:
            self.asked += asked
            self.given += len(given)
            self.given_bytes += sum(given)

    def note_changed(self) -> None:
        """Count a file that changed."""
        with self._lock:
            self.changed += 1


class Maker:
    """Makes blocks of what is `offered`, by the index as `view` gives it. `close()` it.

    `held` is what was made with others. `on_pack` is given the blocks of each pack that was made;
    without it none is. `on_change` is told the root of a tree of which a file
    changed, `on_damage` a segment with a part that is damaged, by whichever thread.
    """

    def __init__(
        self,
        view: Callable[[], View],
        held: MadeBlocks,
        on_pack: Callable[[Mapping[Reference, bytes]], None] | None = None,
        on_change: Callable[[str], None] = lambda root: None,
        on_damage: Callable[[Segment, DamagedIndex], None] = lambda segment, error: None,
    ) -> None:
        self._view = view
        self._held = held
        self._on_change = on_change
        self._on_damage = on_damage
        self.offered: frozenset[str] = frozenset()
        """The roots of trees whose blocks are given away: see `offer`."""
        self.tally = Tally()
        self._files = OpenFiles()
        self._packed = None
        if on_pack is not None:
            self._packed = PackedMaker(Packing(self._files, on_pack), held)
        self._lock = threading.Lock()
        self._parts = LoadedParts()
        # When it was noted, of files by the numbers of part and file.
        self._changed: dict[tuple[int, int], float] = {}

    def close(self) -> None:
        """Let go of open files."""
        self._files.close()

    def offer(self, roots: Iterable[str]) -> None:
        """From now on give away blocks of the trees at these roots, and of no others."""
        before, self.offered = self.offered, frozenset(roots)
        if not before <= self.offered:
            # Whose they were is not known.
            self._held.clear()

    def tidy(self) -> None:
        """Let go of what is held for long; to be called from time to time."""
        self._files.tidy()
        self._held.tidy()
        with self._lock:
            limit = time.monotonic() - _NOTED_S
            for key in [key for key, since in self._changed.items() if since < limit]:
                del self._changed[key]

    def forget_changes(self, numbers: Sequence[int]) -> None:
        """These parts are gone, and what was noted of their files is of no use."""
        gone = frozenset(numbers)
        with self._lock:
            for key in [key for key in self._changed if key[0] in gone]:
                del self._changed[key]

    # what is asked

    def make(self, references: Sequence[Reference], *, near: bool) -> list[bytes | Later | None]:
        """For each the block, or what makes it, or None. Never raises."""
        made: list[bytes | Later | None] = [self._make(one, near) for one in references]
        self.tally.add(len(made), [one for one in made if isinstance(one, bytes)])
        return made

    def find(self, references: Sequence[Reference], *, near: bool) -> list[bool]:
        """For each whether it can be made, as far as is known without reading its file."""
        return [self._is_here(reference, near) for reference in references]

    def _is_here(self, reference: Reference, near: bool) -> bool:
        if self._held.get(reference) is not None:
            return True
        places = islice(self._places(reference), _TRIES)
        return any(self._can_be_made(held, number, near) for held, number in places)

    def _can_be_made(self, held: Held, number: int, near: bool) -> bool:
        if held.row.is_packed:
            return near
        if not self._changed:
            return True
        try:
            place = self._parts.get(held).places.find(number)
        except DamagedIndex as error:
            self._on_damage(held.segment, error)
            return False
        return (held.row.number, _file_of(place)) not in self._changed

    def _make(self, reference: Reference, near: bool) -> bytes | Later | None:
        block = self._held.get(reference)
        if block is not None:
            return block
        for held, number in islice(self._places(reference), _TRIES):
            try:
                made = (
                    self._make_packed(held, number, reference, near)
                    if held.row.is_packed
                    else self._make_at(held, number, reference)
                )
            except DamagedIndex as error:
                self._on_damage(held.segment, error)
                continue
            if made is not None:
                return made
        return None

    def _places(self, reference: Reference) -> Iterator[tuple[Held, int]]:
        offered = self.offered
        return (
            (held, number)
            for held, number in self._view().find(reference)
            if held.row.root in offered
        )

    def _make_at(self, held: Held, number: int, reference: Reference) -> bytes | Later | None:
        loaded = self._parts.get(held)
        place = loaded.places.find(number)
        if (held.row.number, _file_of(place)) in self._changed:
            return None
        if isinstance(place, OfIndex):
            key = "index", held.row.number
            return Later(key, lambda: self._counted(held, self._of_index(held, reference)))
        size = loaded.sizes[place.file]
        if not place.level:
            try:
                made = self._leaf(held, loaded, place)
            except OSError as error:
                if error.errno in _PASSING:
                    return None
                made = None
            return self._checked(made, reference, held, place.file, loaded)
        if size > LARGE_FILE:
            return _same(self._node(held, loaded, place), reference)
        file = place.file
        return Later(
            ("file", held.row.number, file),
            lambda: self._counted(held, self._of_small(held, loaded, file, reference)),
        )

    def _make_packed(
        self, held: Held, number: int, reference: Reference, near: bool
    ) -> Later | None:
        if self._packed is None:
            return None
        later = self._packed.make(held, number, reference, near=near)
        return later and Later(later.key, lambda: self._counted(held, later.make()))

    # how it is made

    def _leaf(self, held: Held, loaded: LoadedPart, place: Place) -> tuple[bytes, bytes] | None:
        """Raises: OSError."""
        size = loaded.sizes[place.file]
        block_size = choose_block_size(size)
        is_last = place.place == leaf_count(size, block_size) - 1
        with self._files.opened(loaded.part.root, loaded.paths[place.file]) as descriptor:
            data = read_at(descriptor, place.place * block_size, block_size)
        if is_last:
            if len(data) >= block_size:
                return None
            data = pad(data, block_size)
        elif len(data) != block_size:
            return None
        if size > LARGE_FILE:
            at = loaded.pairs_at[place.file] + place.place * PAIR_SIZE + REFERENCE_SIZE
            return encrypt_leaf_again(data, bytes(held.pairs()[at : at + KEY_SIZE]))
        ((made, block),) = encrypt_leaves(memoryview(data), block_size, _SECRET, bytearray())
        return made, block

    def _checked(
        self,
        made: tuple[bytes, bytes] | None,
        reference: Reference,
        held: Held,
        file: int,
        loaded: LoadedPart,
    ) -> bytes | None:
        if made is not None and made[0] == reference:
            return made[1]
        # By eight bytes another block may be meant, once in a very long time; then too little is
        # offered.
        self._files.forget(loaded.part.root, loaded.paths[file])
        self._note_changed(held, file)
        return None

    def _node(self, held: Held, loaded: LoadedPart, place: Place) -> tuple[bytes, bytes]:
        size = loaded.sizes[place.file]
        block_size = choose_block_size(size)
        starts = level_starts(size, block_size)
        # The pairs of the blocks below: one node has as many bytes of them as a block.
        start = starts[place.level - 1] * PAIR_SIZE + place.place * block_size
        end = starts[place.level] * PAIR_SIZE
        at = loaded.pairs_at[place.file]
        pairs = held.pairs()[at + start : at + min(start + block_size, end)]
        reference, _, block = encrypt_node(bytes(pairs).ljust(block_size, b"\0"), place.level)
        return reference, block

    def _of_small(
        self, held: Held, loaded: LoadedPart, file: int, reference: Reference
    ) -> bytes | None:
        """Encode a file of up to 4 MiB again; all its blocks are held for a moment."""
        block = self._held.get(reference)
        if block is not None:
            return block
        size = loaded.sizes[file]
        try:
            with self._files.opened(loaded.part.root, loaded.paths[file]) as descriptor:
                data = read_at(descriptor, 0, size + 1)
        except OSError as error:
            if error.errno in _PASSING:
                return None
            data = b""
        encoder = Encoder(choose_block_size(size))
        blocks = dict([*encoder.feed(data), *encoder.finish()])
        return self._hold(blocks, reference, held, file, loaded)

    def _of_index(self, held: Held, reference: Reference) -> bytes | None:
        """Write the index of a tree again; all its blocks are held for a moment."""
        block = self._held.get(reference)
        if block is not None:
            return block
        try:
            closing = held.read()
            parts = self._view().parts
            tree: dict[Path, Entry] = {}
            for number in closing.members or ():
                tree.update(entries_of(parts[number].read()))
            tree.update(entries_of(closing, self._pairs(closing)))
            blocks = encode_index(tree)
        except (KeyError, GuixError, TreeError, OSError) as error:
            _log.debug("An index cannot be written again: %s", error)
            if not (isinstance(error, OSError) and error.errno in _PASSING):
                self._note_changed(held, _THE_INDEX)
            return None
        return self._hold(blocks, reference)

    def _pairs(self, part: Part) -> bytes | None:
        """The pairs of its files' roots, where it has none.

        Raises: TreeError, NotSeeded, OSError.
        """
        if part.pairs or not any(one.is_file for one in part.entries):
            return None
        encoded = encode_files(part.root, part.entries, lambda: False)
        return None if encoded is None else bytes(encoded.roots)

    def _hold(
        self,
        blocks: dict[Reference, bytes],
        reference: Reference,
        held: Held | None = None,
        file: int = 0,
        loaded: LoadedPart | None = None,
    ) -> bytes | None:
        if reference not in blocks:
            if held is not None and loaded is not None:
                self._files.forget(loaded.part.root, loaded.paths[file])
                self._note_changed(held, file)
            return None
        self._held.hold(blocks)
        return blocks[reference]

    # what is held

    def _note_changed(self, held: Held, file: int) -> None:
        key = held.row.number, file
        with self._lock:
            if key in self._changed:
                return
            self._changed[key] = time.monotonic()
            while len(self._changed) > _MOST_CHANGED:
                del self._changed[next(iter(self._changed))]
        self.tally.note_changed()
        self._on_change(held.row.root)

    def _counted(self, held: Held, block: bytes | None) -> bytes | None:
        if held.row.root not in self.offered:
            # It was withdrawn meanwhile: what is held with the block came too late to go with it.
            self._held.clear()
            return None
        self.tally.add(0, [block])
        return block


def _file_of(place: Place | OfIndex) -> int:
    return _THE_INDEX if isinstance(place, OfIndex) else place.file


def _same(made: tuple[bytes, bytes], reference: Reference) -> bytes | None:
    return made[1] if made[0] == reference else None
