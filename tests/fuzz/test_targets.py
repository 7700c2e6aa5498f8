"""Each target once over what fuzzing begins with; `make fuzz` goes on from there."""

from __future__ import annotations

import pytest

from tests.fuzz.seeds import MAX_SIZE, seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    found = seeds(name)
    assert found
    for seed in found:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds(name: str) -> None:
    for seed in seeds(name)[:8]:
        TARGETS[name](seed[: len(seed) // 2])
        TARGETS[name](seed + seed[-9:])
        for place in range(0, len(seed), len(seed) // 8 + 1):
            TARGETS[name](seed[:place] + bytes([seed[place] ^ 0x41]) + seed[place + 1 :])


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_and_much(name: str) -> None:
    for data in (b"", b"\0", b"\xff" * 3, b"(" * MAX_SIZE):
        TARGETS[name](data)
