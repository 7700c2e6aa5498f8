"""Work on a real store, recorded; then the states of the disk that a crash can leave are tried.

One run, from one seed: a store is worked on, some states are made for moments of it and each is
opened and checked; from one of these the work goes on, and so forth. Nothing in it depends on
time, so a seed does the same again.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal

from eris.model import BlockSize, Reference
from kapla.errors import KaplaError
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.writer import SqliteReader, SqliteWriter
from tests.torture.blocks import new_blocks
from tests.torture.check import check_store
from tests.torture.disk import Disk, Image
from tests.torture.history import Facts, Fault, History
from tests.torture.images import image_of_version
from tests.torture.plants import PLANTS
from tests.torture.shim import Kind, Operation, Plan, Shim
from tests.torture.works import Session, work

__all__ = ["Run", "directory", "warm_up"]

_STATES: Final = 48
"""Tried of each session, at the most."""
_NAME: Final = "blocks.sqlite"
_NO_QUOTA: Final = 1 << 40


def directory() -> tempfile.TemporaryDirectory[str]:
    """Where a run has its files: in memory, if there is such a place. Nothing there is synced."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(
        prefix="kapla-torture-", dir=memory if memory.is_dir() else None
    )


def warm_up(place: Path) -> None:
    """Do once what the first use of the storage makes, so that forked daemons have it too."""
    with closing(SqliteWriter(open_database(SqliteSettings(place / "warm" / _NAME)))) as writer:
        writer.put_many(new_blocks(Random(1), BlockSize.SMALL, 1))


@dataclass(frozen=True, slots=True)
class _Way:
    """What stays the same in a run."""

    synchronous: Literal["normal", "full"]
    generation: int
    checkpoint_pages: int
    has_faults: bool
    version: int | None
    max_size: int | None


def _draw_way(random: Random) -> _Way:
    return _Way(
        random.choice(("normal", "full")),
        random.choice((8, 16, 32, 64)),
        random.choice((3, 10, 40, 1000)),
        random.random() < 0.3,
        random.choice((None, None, 1, 2, 3)),
        random.choice((None, None, random.randrange(320, 640) * 1024)),
    )


class Run:
    """All from one seed."""

    def __init__(self, seed: int, shim: Shim, place: Path, plant: str | None = None) -> None:
        self.seed = seed
        self.states = 0
        """How many were tried, each another one."""
        self._random = Random(seed)
        self._shim = shim
        self._plant = plant
        self._work, self._states = place / "work", place / "state"
        self._way = _draw_way(self._random)
        self._history = History(shim.mark)
        self._history.is_evicting = self._way.max_size is not None
        self._seen: set[int] = set()

    def go(self) -> None:
        """Raises: Fault, with the number of the state in it."""
        image: Image = {}
        if self._way.version is not None:
            image = image_of_version(self._way.version, self._random, self._history)
        for _ in range(self._random.randrange(1, 4)):
            operations = self._recorded(image)
            going_on = self._try_states(image, operations)
            if going_on is None:
                return
            image = going_on

    def _settings(self, place: Path, *, rebuild: bool = False) -> SqliteSettings:
        return SqliteSettings(
            place / _NAME,
            synchronous=self._way.synchronous,
            generation=self._way.generation,
            rebuild_index=rebuild,
            max_size=self._way.max_size,
            max_pinned=_NO_QUOTA if self._way.max_size is not None else None,
        )

    def _recorded(self, image: Image) -> list[Operation]:
        """Work on a store that begins with this on its disk; returns what was done to the disk."""
        settings = self._settings(self._work, rebuild=self._random.random() < 0.1)
        _lay_out(image, self._work)
        with PLANTS[self._plant]() if self._plant else PLANTS["early-answer"]():
            self._shim.begin(settings.path, self._draw_faults(), is_recording=True)
            try:
                self._session(settings)
            except (KaplaError, sqlite3.Error) as error:
                if not self._shim.faults():
                    raise Fault(f"{type(error).__name__}: {error}") from error
            finally:
                operations = self._shim.records()
                self._shim.end()
        return operations

    def _draw_faults(self) -> Plan:
        if not self._way.has_faults:
            return Plan()
        chance = self._random.choice((10_000, 50_000, 200_000))
        kinds = ("write_error", "torn_error", "short_write", "no_room", "sync_error")
        chosen = {kind: chance for kind in kinds if self._random.random() < 0.5}
        first = self._random.randrange(100)
        last = first + self._random.choice((3, 30, 10_000))
        return Plan(self._random.getrandbits(40), **chosen, first=first, last=last)

    def _session(self, settings: SqliteSettings) -> None:
        database = open_database(settings)
        with closing(SqliteWriter(database)) as writer, closing(SqliteReader(database)) as reader:
            pages = self._way.checkpoint_pages
            writer._connection.execute(f"PRAGMA wal_autocheckpoint = {pages}").fetchall()
            is_early = self._plant == "early-answer"
            session = Session(self._random, self._history, writer, reader, is_early)
            work(session, self._random.randrange(4, 24))

    def _try_states(self, image: Image, operations: list[Operation]) -> Image | None:
        """Try states; returns one of them, from which the history goes on, if any was new."""
        moments = _moments(self._random, operations)
        going_on = self._random.choice(moments)
        found: tuple[Image, Facts, set[Reference]] | None = None
        for moment, disk, marks in _replay(image, operations, moments):
            following = operations[moment] if moment < len(operations) else None
            is_cut = self._random.random() < 0.5
            state = disk.cut(self._random) if is_cut else disk.killed(following, self._random)
            tried = self._try(state, marks, is_cut=is_cut)
            if tried is not None and (found is None or moment <= going_on):
                found = state, *tried
        if found is None:
            # Nothing new came of it.
            return None
        self._history.restart(found[1], found[2])
        return found[0]

    def _try(
        self, state: Image, marks: list[int], *, is_cut: bool
    ) -> tuple[Facts, set[Reference]] | None:
        """Try one state, if it is another one than those before."""
        loses = is_cut and self._way.synchronous == "normal"
        window = self._history.window(marks, loses_answered=loses)
        key = _key(state, len(window.allowed))
        if key in self._seen:
            return None
        self._seen.add(key)
        self.states += 1
        _lay_out(state, self._states)
        new = new_blocks(self._random, BlockSize.SMALL, 2)
        try:
            facts, present = check_store(self._settings(self._states), self._history, window, new)
        except Fault as fault:
            kind = "a power cut" if is_cut else "a killed process"
            raise Fault(
                f"state {self.states}, after {kind} with synchronous ="
                f" {self._way.synchronous}: {_plain(fault, self._states)}; files: {_sizes(state)}"
            ) from fault
        return facts, present


def _plain(fault: Fault, place: Path) -> str:
    """Without the directory, which is another one each time."""
    return str(fault).replace(f"{place}/", "")


def _sizes(state: Image) -> str:
    return ", ".join(f"{end or 'database'} {len(content)}" for end, content in state.items())


def _key(state: Image, allowed: int) -> int:
    """Tells states apart, which may be the same with more or less that must hold."""
    return hash((allowed, *sorted(state.items())))


def _moments(random: Random, operations: list[Operation]) -> list[int]:
    """When there is a crash: after so many operations; the end too."""
    count = len(operations)
    return sorted({*random.sample(range(count), min(count, _STATES)), count})


def _replay(
    image: Image, operations: list[Operation], moments: list[int]
) -> Iterator[tuple[int, Disk, list[int]]]:
    disk, marks, done = Disk(image), list[int](), 0
    for moment in moments:
        for operation in operations[done:moment]:
            if operation.kind is Kind.MARK:
                marks.append(operation.offset)
            else:
                disk.do(operation)
        done = moment
        yield moment, disk, marks


def _lay_out(image: Image, place: Path) -> None:
    """Put files where a store has them, and nothing else."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for end, content in image.items():
        (place / (_NAME + end)).write_bytes(content)
