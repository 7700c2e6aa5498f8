"""Writing blocks: one session, in one thread, with synchronous statements in batches.

What comes together is kept in one transaction. Where damage is in the way, what follows from the
blocks is made anew first (`kapla.storage.sqlite.keeper`), and then each block is tried alone.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from eris.crypto import reference_of
from eris.errors import StoreFull, StoreUnavailable
from eris.model import Reference
from kapla.storage.port import Promise
from kapla.storage.sqlite.coming import Coming, PartlyDamaged, PutResult
from kapla.storage.sqlite.damage import DamagedStore, is_damage, is_full, transaction, unreadable
from kapla.storage.sqlite.files import StoreFiles, sync_names
from kapla.storage.sqlite.keeper import Keeper
from kapla.storage.sqlite.keeping.pins import Pins
from kapla.storage.sqlite.keeping.promises import fulfil
from kapla.storage.sqlite.keeping.quota import LACKING_BYTES
from kapla.storage.sqlite.keeping.room import weight_of
from kapla.storage.sqlite.keeping.space import Space
from kapla.storage.sqlite.keeping.state import Hold
from kapla.storage.sqlite.notes import Note, write_notes
from kapla.storage.sqlite.numbering import Numbering
from kapla.storage.sqlite.recent import pack_prefixes
from kapla.storage.sqlite.schema import prefix_of, prefixes_of
from kapla.storage.sqlite.session import Found, SqliteReader
from kapla.storage.sqlite.state import Database, SqliteSettings

__all__ = ["DamagedStore", "PartlyDamaged", "PutResult", "SqliteReader", "SqliteWriter"]

_log = logging.getLogger(__name__)

_MOST_DUE: Final = 16
_FEW: Final = 8


class SqliteWriter(SqliteReader):
    """Writes blocks."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        try:
            self._numbering = Numbering(self._connection)
            self._promises: Sequence[Promise] = ()
            # The WAL is there once something was read. No block was taken yet.
            self._files = StoreFiles(database.settings.path)
            sync_names(database.settings.path)
            self._space = Space(
                self._connection,
                database,
                self._files,
                self._numbering,
                lambda: self.keeper.rebuild,
                lambda: self.pins,
            )
            self.keeper = Keeper(
                self._connection,
                database,
                self._files,
                lambda: self._numbering.highest,
                [self._space.chore],
            )
            self.keeper.start()
            self.pins = Pins(self._connection, database, self._space.room)
            """What must stay; for this thread."""
            self.pins.start()
            if self._numbering.is_end_damaged:
                self._turn_if_possible()
        except BaseException:
            self._connection.close()
            raise

    def put_many(
        self, blocks: dict[Reference, bytes], promises: Sequence[Promise] = ()
    ) -> PutResult:
        """Keep blocks, in one transaction if nothing is damaged.

        Those of `promises` are held or lent then. After an error none of the new ones is kept, but
        for `PartlyDamaged`.
        Raises: StoreUnavailable, on a full disk or a failing one.
        """
        self._check_files()
        before = self._connection.total_changes
        self._promises = promises
        try:
            result = self._put_with_room(blocks)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise _unwritable(error) from error
            result = self._put_in_spite(blocks)
        if self._connection.total_changes != before:
            # Again: what a removed WAL holds is not kept.
            self._check_files()
        while self._database.recent.due() > _MOST_DUE * self._database.recent.slice:
            # Whoever does not look after the chores has them done here.
            if self.keeper.chore(is_idle=False) != 0.0:
                break
        return result

    def want(self, number: int, hold: Hold, references: Sequence[Reference]) -> set[Reference]:
        """Hold what is there of these; an open pin lacks the others. Returns what is there.

        Raises: StoreFull, StoreUnavailable.
        """
        found = self.hold_many(references, lambda places: self.pins.quota.hold_found(hold, places))
        missing = [name for name in references if name not in found]
        if not self._has_room(len(missing) * LACKING_BYTES):
            raise StoreFull(self.why_full())
        self.pins.want(number, hold, missing)
        return found

    def chore(self, *, is_idle: bool) -> float | None:
        """Do a little of what there is to do; see `Keeper.chore`."""
        pauses = [self.keeper.chore(is_idle=is_idle), self.pins.chore(is_idle=is_idle)]
        return min((pause for pause in pauses if pause is not None), default=None)

    def why_full(self) -> str:
        """What stands in the way of a block that was refused, and what can be done."""
        return self._space.room.why_full() + self.pins.advice

    def settle(self, settings: SqliteSettings) -> None:
        """Let other limits hold from now on. Raises: sqlite3.Error, StoreUnavailable."""
        database = self._database
        before, database.settings = database.settings, settings
        try:
            database.keeping.track_reads(settings.evicts)
            self._space.settle()
            if settings.lend_cache != before.lend_cache:
                self.pins.settle()
        except BaseException:
            database.settings = before
            self._space.settle()
            raise

    def finish(self) -> None:
        """Write what was put off until now. Raises: sqlite3.Error."""
        self.pins.lent_cache.write()

    def checkpoint(self) -> None:
        """Move everything from the WAL into the database file and empty it."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _has_room(self, needed: int) -> bool:
        try:
            return self._space.make_bytes(needed)
        except sqlite3.Error as error:
            raise unreadable(error) from error

    def _put_with_room(self, blocks: dict[Reference, bytes]) -> PutResult:
        """Raises: sqlite3.Error; on a full disk some may be kept."""
        try:
            self._space.make(blocks.values())
            return self._put(blocks)
        except sqlite3.Error as error:
            if not (is_full(error) and self._space.rescue()):
                raise
        added, refused = 0, frozenset[Reference]()
        for part in _parts(blocks):
            result = self._put_on_full_disk(part)
            added, refused = added + result.added, refused | result.refused
        return PutResult(added, refused)

    def _put_on_full_disk(self, blocks: dict[Reference, bytes]) -> PutResult:
        """The fewer, the better they fit into what there is of the WAL. Raises: sqlite3.Error."""
        try:
            self._space.make(blocks.values())
            return self._put(blocks)
        except sqlite3.Error as error:
            if not is_full(error):
                raise
        self._space.rescue()
        self._space.make(blocks.values())
        return self._put(blocks)

    def _check_files(self) -> None:
        if self._files.are_ours():
            return
        # What was acknowledged before is saved, if only the WAL is gone.
        try:
            self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        except sqlite3.Error as error:
            _log.warning("The WAL that was removed could not be saved: %s", error)
        raise StoreUnavailable("the store's file or its WAL was removed or replaced")

    def _put_in_spite(self, blocks: dict[Reference, bytes]) -> PutResult:
        """Keep what can be kept of these, where something is damaged."""
        try:
            self.keeper.mend()
            return self._put(blocks, self._find_kept(blocks))
        except sqlite3.Error as error:
            self._check_is_damage(error)
        self._turn_if_possible()
        return self._put_one_by_one(blocks)

    def _put_one_by_one(self, blocks: dict[Reference, bytes]) -> PutResult:
        added, refused, failed = 0, frozenset[Reference](), dict[Reference, StoreUnavailable]()
        for item in blocks.items():
            try:
                block = dict([item])
                result = self._put(block, self._find_kept(block))
            except sqlite3.Error as error:
                self._check_is_damage(error)
                failed[item[0]] = unreadable(error)
            else:
                added, refused = added + result.added, refused | result.refused
        if failed:
            raise PartlyDamaged(PutResult(added, refused), failed)
        return PutResult(added, refused)

    @staticmethod
    def _check_is_damage(error: sqlite3.Error) -> None:
        if not is_damage(error):
            raise _unwritable(error) from error

    def _put(self, blocks: dict[Reference, bytes], found: Found | None = None) -> PutResult:
        """Keep blocks in one transaction; `found`: which of them there are, if that is known.

        Raises: sqlite3.Error; then nothing is kept.
        """
        first_id = self._numbering.next
        prefixes: list[int] = []
        after: Callable[[], None] | None = None
        try:
            with transaction(self._connection):
                coming = self._select(blocks, found or self._find_kept(blocks))
                prefixes = prefixes_of([reference for reference, _ in coming.blocks])
                counts = self._insert(coming, prefixes)
                if self._promises or self.pins.is_wanting or coming.bad_places:
                    after = self._tell_pins(coming, blocks)
                if prefixes:
                    # Before the commit, after which nothing may fail any more: without their rows
                    # the places lead to nothing.
                    self._numbering.next += len(prefixes)
                    self._database.recent.add(first_id, prefixes)
        except BaseException:
            self._numbering.next = first_id
            self._database.recent.withdraw(first_id, prefixes)
            raise
        if after is not None:
            after()
        totals = self._database.totals
        if totals is not None:
            for size, added in counts.items():
                totals[size] += added
        if coming.bad_places:
            self._forget_places(coming.bad_places)
        return PutResult(sum(counts.values()), coming.refused)

    def _tell_pins(self, coming: Coming, blocks: dict[Reference, bytes]) -> Callable[[], None]:
        """Who wants these has them; returns what is to be done once they are committed."""
        known = {
            name: (block_id, len(blocks[name]))
            for name, block_id in coming.known.items()
            # Some may only share the first bytes of their reference with what has come.
            if name in blocks
        }
        for promise in self._promises:
            # At once: they are there, and were promised.
            fulfil(promise, known, self.pins)
        new = {
            name: (block_id, len(block))
            for block_id, (name, block) in enumerate(coming.blocks, self._numbering.next)
        }
        told: Callable[[], None] | None = None
        if self.pins.is_wanting or coming.bad_places:
            told = self.pins.arrive(known | new, coming.replacements(new))

        def after() -> None:
            for promise in self._promises:
                fulfil(promise, new, self.pins)
            if told is not None:
                told()

        return after

    def _find_kept(self, blocks: dict[Reference, bytes]) -> Found:
        texts = self._statements
        return self._find(list(blocks), texts.kept_by_id, texts.kept_by_prefix)

    def _select(self, blocks: dict[Reference, bytes], found: Found) -> Coming:
        """Tell what is new of these, and heal what is damaged of the others."""
        known: dict[Reference, int] = {}
        bad_places = found.bad_places
        reads = self._database.keeping.reads
        if reads is not None:
            reads.add([row[2] for row in found.rows])
        for reference, block, block_id in found.rows:
            good = blocks.get(reference)
            if good is None or block == good or self._heal(block_id, reference, good):
                known[reference] = block_id
            elif reference_of(good) == reference:
                bad_places.append((prefix_of(reference), block_id))
            else:
                known[reference] = block_id
        new = [item for item in blocks.items() if item[0] not in known]
        refused = self._over_quota(new)
        if refused:
            new = [item for item in new if item[0] not in refused]
        replaced = {prefix_of(reference) for reference, _ in new} if bad_places else set()
        bad_places = [place for place in bad_places if place[0] in replaced]
        return Coming(new, refused, bad_places, known)

    def _insert(self, coming: Coming, prefixes: Sequence[int]) -> dict[int, int]:
        """Returns how many there are more of each size."""
        if not prefixes:
            return {}
        connection, texts, first_id = self._connection, self._statements, self._numbering.next
        connection.executemany(
            texts.insert_block,
            [(block_id, *item) for block_id, item in enumerate(coming.blocks, first_id)],
        )
        connection.execute(texts.log, (first_id, pack_prefixes(prefixes)))
        counts = coming.counts()
        for size, added in counts.items():
            connection.execute(texts.count, (added, size))
        return counts

    def _heal(self, block_id: int, reference: Reference, block: bytes) -> bool:
        """Put a good block in the place of one that was damaged on the disk, if that can be."""
        if reference_of(block) != reference:
            return False
        try:
            self._connection.execute(self._statements.replace_block, (block, block_id))
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            return False
        _log.warning("A stored block was damaged, and is replaced by a good one that came")
        return True

    def _forget_places(self, places: list[tuple[int, int]]) -> None:
        """Look no more for what cannot be read, now that a good block is there."""
        self._database.is_placed = False
        for prefix, block_id in places:
            self._database.recent.discard(prefix, block_id)
        try:
            with transaction(self._connection):
                self._connection.executemany(self._statements.delete_place, places)
                write_notes(self._connection, {Note.ALL_PLACED: None})
        except sqlite3.Error as error:
            _log.debug("Places of damaged blocks remain: %s", error)

    def _over_quota(self, coming: list[tuple[Reference, bytes]]) -> frozenset[Reference]:
        """Which of the new blocks find no room."""
        if not self._database.settings.has_limit:
            return frozenset()
        room = self._space.room.allowed()
        # Where blocks go for others, no more may come than those others made room for.
        weigh = weight_of if self._database.settings.evicts else int
        refused = set()
        for reference, block in coming:
            room -= weigh(len(block))
            if room < 0:
                refused.add(reference)
        return frozenset(refused)

    def _turn_if_possible(self) -> None:
        if self._numbering.is_turned:
            return
        try:
            self._turn()
        except sqlite3.Error as error:
            self._check_is_damage(error)

    def _turn(self) -> None:
        """Go on adding at the other end, as the page where the newest blocks are is damaged.

        Ids go on from the lowest there can be. The log must be empty then: its order is theirs.
        Raises: sqlite3.Error.
        """
        self.keeper.empty_log()
        self._numbering.turn(self._connection)


def _parts(blocks: dict[Reference, bytes]) -> Iterator[dict[Reference, bytes]]:
    items = iter(blocks.items())
    while part := dict(islice(items, _FEW)):
        yield part


def _unwritable(error: sqlite3.Error) -> StoreUnavailable:
    if is_full(error):
        return StoreUnavailable("the disk is full")
    return StoreUnavailable(f"the database cannot be written: {error}")
