"""A little of `make torture`; and that it finds what is planted."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.torture.campaign import Campaign, Result
from tests.torture.disk import Disk
from tests.torture.front_plants import FRONT_PLANTS
from tests.torture.plants import PLANTS
from tests.torture.shim import NO_COMPILER, Kind, Operation, build


def torture(kind: str, seed: int, rounds: int, plant: str | None = None) -> Result:
    library = build()
    if library is None:
        pytest.skip(NO_COMPILER)
    result = Campaign(kind, library, seed, rounds, 240.0, 1, plant, most_faults=1).run()
    if result.skipped:
        pytest.skip(result.skipped)
    return result


def test_states_of_the_disk() -> None:
    result = torture("simulated", 1, 120)
    assert result.faults == []
    assert result.rounds >= 120


def test_a_power_cut_while_a_file_is_made_leaves_one_that_can_be_opened() -> None:
    """A round of which that was not true."""
    assert torture("simulated", 3688058546, 5).faults == []


def test_real_daemons_and_clients() -> None:
    result = torture("real", 1, 3)
    assert result.faults == []
    assert result.rounds >= 3
    assert result.counted


def test_front_ends_of_one_database() -> None:
    result = torture("postgresql", 6, 3)
    assert result.faults == []
    assert result.rounds >= 3
    assert result.counted["blocks answered"]


# Where to begin, so that it is found soon; from others on it takes hundreds of rounds.
SEEDS = {"early-answer": 3, "evict-all": 14, "no-arrival": 4}


def test_a_store_that_is_nearly_full_is_no_fault() -> None:
    """A seed by which it says so."""
    assert torture("simulated", 13, 60).faults == []


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_is_found(plant: str) -> None:
    result = torture("simulated", SEEDS.get(plant, 1), 1000, plant)
    assert result.faults


# Where room is made, one who was killed is waited for, half a minute each time.
FRONT_SEEDS = {"no-wait": 6, "drop-all": 1}


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(name, marks=pytest.mark.soak if name == "drop-all" else ())
        for name in FRONT_PLANTS
    ],
)
def test_what_is_planted_in_front_ends_is_found(plant: str) -> None:
    assert torture("postgresql", FRONT_SEEDS[plant], 60, plant).faults


def test_the_same_seed_finds_the_same() -> None:
    first, second = (torture("simulated", 7, 100, "no-log") for _ in range(2))
    assert first.faults == second.faults != []


def written(offset: int, data: bytes) -> Operation:
    return Operation(Kind.WRITE, 0, offset, data)


CREATED = Operation(Kind.CREATE, 0, 0, b"")
SYNCED = Operation(Kind.SYNC, 0, 0, b"")


def test_what_was_synced_outlives_a_power_cut() -> None:
    disk = Disk({})
    for operation in (CREATED, written(0, b"a" * 4096), SYNCED, written(0, b"b" * 8192)):
        disk.do(operation)
    states = [disk.cut(Random(seed))[""] for seed in range(300)]
    assert all(4096 <= len(state) <= 8192 for state in states)
    assert set(b"".join(states)) == set(b"ab\0")
    # Each part of what was not synced, and none of it, and all.
    assert {b"a" * 4096, b"b" * 8192} <= set(states)
    assert any(b"ab" in state or b"ba" in state for state in states)
    assert disk.killed(None, Random(1)) == {"": b"b" * 8192}


def test_a_file_that_was_never_synced_may_be_gone() -> None:
    disk = Disk({})
    disk.do(CREATED)
    assert {tuple(disk.cut(Random(seed))) for seed in range(50)} == {(), ("",)}


def test_two_runs_share_no_files(tmp_path: Path) -> None:
    """A name that was given away and taken again is another file."""
    disk = Disk({"-wal": b"old"})
    for operation in (
        Operation(Kind.OPEN, 3, 0, b"-wal"),
        Operation(Kind.UNLINK, 3, 0, b"-wal"),
        Operation(Kind.CREATE, 3, 0, b"-wal"),
        Operation(Kind.WRITE, 3, 0, b"new"),
    ):
        disk.do(operation)
    states = {disk.cut(Random(seed)).get("-wal") for seed in range(100)}
    assert {b"old", b"new", b"", b"\0\0\0"} == states
