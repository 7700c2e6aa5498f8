"""What waits is served in turn for each who asks."""

from __future__ import annotations

import pytest

from kapla.seeds.turns import InTurn


def test_who_asks_for_much_delays_nobody() -> None:
    waiting: InTurn[str] = InTurn()
    for number in range(100):
        waiting.add("much", f"a{number}")
    waiting.add("little", "b0")
    assert [waiting.take() for _ in range(4)] == ["a0", "b0", "a1", "a2"]
    waiting.add("little", "b1")
    assert [waiting.take() for _ in range(2)] == ["a3", "b1"]


def test_what_waits_goes_with_whoever_wanted_it() -> None:
    waiting: InTurn[str] = InTurn()
    for one in ("a0", "a1", "b0", "c0"):
        waiting.add(one[0], one)
    waiting.leave("b")
    waiting.leave("d")
    assert [waiting.take() for _ in range(3)] == ["a0", "c0", "a1"]
    assert not waiting
    with pytest.raises(KeyError):
        waiting.take()
    waiting.add("a", "a2")
    waiting.clear()
    assert not waiting
