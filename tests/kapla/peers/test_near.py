"""Peers on a network of this machine come first: the line to all others is spared."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kapla.peers.session import Standing
from tests.kapla.peers.simulation import Content, Habits, Node, Reader, World, megabit


@dataclass(frozen=True)
class Played:
    """How long a reader took, and which part of the content each gave."""

    took_s: float
    near: float
    far: float


def read(
    *,
    near_mbit_s: float = 100,
    near_rtt_s: float = 0.002,
    far_mbit_s: float = 100,
    part: float = 1.0,
    habits: Habits | None = None,
    both_are_far: bool = False,
) -> Played:
    """One reads from a server far away that has all, and from a near one that has a part of it."""
    world = World()
    content = Content(600)
    reader = Reader(Node(world), content)
    far = Node(world, up=megabit(far_mbit_s))
    far.has = set(content.references)
    near = Node(world, up=megabit(near_mbit_s), habits=habits)
    near.has = set(content.references[: int(part * content.total)])
    standing = Standing()
    standing.is_near = not both_are_far
    reader.add(far, 0.05)
    reader.add(near, near_rtt_s, standing)
    reader.start()
    took_s = world.run(lambda: reader.is_done)
    assert not reader.lost
    return Played(took_s, near.gave / content.bytes, far.gave / content.bytes)


def test_what_is_near_is_not_fetched_from_afar() -> None:
    played = read()
    assert played.far <= 0.02
    assert played.near >= 0.98


def test_even_if_it_is_the_slower_one() -> None:
    played = read(near_mbit_s=20, near_rtt_s=0.02)
    assert played.far <= 0.02
    # Where neither is near, the quicker one gives the most.
    assert read(near_mbit_s=20, near_rtt_s=0.02, both_are_far=True).far >= 0.6


def test_but_not_for_ever() -> None:
    """Whoever is near is anybody: one that drips does not hold up the rest."""
    alone = read(part=0.0)
    played = read(near_mbit_s=0.5)
    assert played.far >= 0.8
    assert played.took_s <= 3 * alone.took_s + 1.0


def test_what_it_lacks_comes_from_afar() -> None:
    alone = read(part=0.0)
    assert alone.near == 0.0
    assert alone.far == 1.0
    played = read(part=0.5)
    assert played.far <= 0.55
    assert played.took_s <= 1.1 * alone.took_s + 0.2


@pytest.mark.parametrize(
    "habits",
    [
        Habits(stalls_at=0),
        Habits(stalls_at=0.1),
        Habits(lies=True),
        Habits(fails=True),
        Habits(tells=False),
        Habits(answers=0.5),
    ],
    ids=["dead", "stalls", "lies", "fails", "does not tell", "answers half"],
)
def test_one_that_is_no_good_costs_a_moment(habits: Habits) -> None:
    alone = read(part=0.0)
    has_all = 0.0 if habits.tells is False else 1.0
    played = read(habits=habits, part=has_all)
    assert played.took_s <= 1.5 * alone.took_s + 1.5
