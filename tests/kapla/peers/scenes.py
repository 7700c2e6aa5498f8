"""What is played through, in tests and benchmarks: a reader and its peers, a crowd, a thousand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from eris.model import Reference
from tests.kapla.peers.simulation import Content, Habits, Node, Reader, World, megabit

__all__ = ["FAULTS", "Crowd", "Played", "crowd", "read_from", "thousand"]

# How a peer can be no good: its habits, its rate in bytes a second, whether it has the content.
FAULTS = {
    "dead": (Habits(stalls_at=0), megabit(10), True),
    "stalls": (Habits(stalls_at=2), megabit(10), True),
    "drips": (Habits(), 1000.0, True),
    "lies": (Habits(lies=True), megabit(10), True),
    "answers half": (Habits(answers=0.5), megabit(10), True),
    "has nothing": (Habits(), megabit(10), False),
    "has nothing and does not tell": (Habits(tells=False), megabit(10), False),
    "says yes and has nothing": (Habits(says_yes=True), megabit(10), False),
    "fails": (Habits(fails=True), megabit(10), True),
}


@dataclass(frozen=True)
class Played:
    """What came of it."""

    took_s: float
    twice: float
    """Part of the bytes that came twice."""
    reader: Reader
    nodes: Sequence[Node]


def read_from(
    count: int,
    *,
    mbit_s: float = 10,
    rtt_s: float = 0.05,
    blocks: int = 960,
    size: int = 32 * 1024,
    fault: str | None = None,
    is_first: bool = False,
) -> Played:
    """One reads a content from so many peers that have it, and from one more that is no good."""
    world = World()
    content = Content(blocks, size)
    reader = Reader(Node(world), content)
    nodes = [_node(world, content, megabit(mbit_s), Habits(), True) for _ in range(count)]
    if fault is not None:
        habits, rate, has_it = FAULTS[fault]
        nodes.insert(0 if is_first else count, _node(world, content, rate, habits, has_it))
    for node in nodes:
        reader.add(node, rtt_s)
    reader.start()
    took_s = world.run(lambda: reader.is_done)
    assert not reader.lost
    return Played(took_s, reader.session.fetched_twice / content.bytes, reader, nodes)


def _node(world: World, content: Content, rate: float, habits: Habits, has_it: bool) -> Node:
    node = Node(world, up=rate, habits=habits)
    node.has = set(content.references) if has_it else set()
    return node


@dataclass(frozen=True)
class Crowd:
    """What came of a crowd."""

    took_s: float
    ideal_s: float
    """If each block left the first once, and its link were the only bound."""
    left_first: float
    """Bytes of blocks that left the first, in sizes of the content."""
    twice: float


def crowd(count: int = 10, *, blocks: int = 960, mbit_s: float = 10, seed: int = 1) -> Crowd:
    """So many daemons, the first of which has a content that all others want at the same time."""
    order = random.Random(seed)
    world = World()
    content = Content(blocks)
    rate = megabit(mbit_s)
    nodes = [Node(world, up=rate, down=rate) for _ in range(count)]
    nodes[0].has = set(content.references)
    readers = []
    for node in nodes[1:]:
        reader = Reader(node, content, place=order.getrandbits(64))
        others = [other for other in nodes if other is not node]
        order.shuffle(others)
        for other in others:
            reader.add(other, 0.05)
        readers.append(reader)
    for reader in readers:
        reader.start()
    took_s = world.run(lambda: all(reader.is_done for reader in readers))
    assert not any(reader.lost for reader in readers)
    twice = sum(reader.session.fetched_twice for reader in readers)
    wanted = content.bytes * len(readers)
    return Crowd(took_s, content.bytes / rate, nodes[0].gave / content.bytes, twice / wanted)


def thousand(
    kind: str, *, count: int = 1000, blocks: int = 100, leaving: int = 0, seed: int = 1
) -> Played:
    """One reads from a thousand: `all` have it, the `last`, each a `part`, or `nobody`.

    `leaving`: so many of them go while it reads, and as many come.
    """
    chance = random.Random(seed)
    world = World()
    content = Content(blocks)
    reader = Reader(Node(world), content)
    nodes = []
    for number in range(count):
        node = Node(world, up=megabit(10))
        node.has = _had(kind, content.references, number == count - 1, chance)
        nodes.append(node)
        reader.add(node, 0.02 + 0.05 * chance.random())
    for number in range(leaving):
        when = chance.random() * 0.5
        world.at(when, partial(reader.drop, number))
        world.at(when, partial(_come, reader, nodes[number]))
    reader.start()
    took_s = world.run(lambda: reader.is_done)
    return Played(took_s, reader.session.fetched_twice / content.bytes, reader, nodes)


def _come(reader: Reader, node: Node) -> None:
    reader.add(node, 0.05)


def _had(
    kind: str, references: Sequence[Reference], is_last: bool, chance: random.Random
) -> set[Reference]:
    if kind == "all" or (kind == "last" and is_last):
        return set(references)
    if kind == "part":
        return {reference for reference in references if chance.random() < 0.05}
    return set()
