"""Daemons, peers and links between them, in a time of their own: what a session does with them.

Each node has a link of its own, up and down, each a queue with a rate; between two nodes is a
delay. A thousand peers, an hour: all is played through as fast as the sessions can decide.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from eris.model import Reference
from kapla.peers.session import Action, Distrust, Find, Get, NobodyHas, Session, Standing

__all__ = ["Content", "Habits", "Link", "Node", "Reader", "World", "megabit"]

_GET = 100
_ANSWER = 64


def megabit(count: float) -> float:
    """Bytes a second."""
    return count * 125_000


class World:
    """The time, and what is to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._numbers), event))

    def run(self, until: Callable[[], bool], limit_s: float = 3600.0) -> float:
        """Let time pass until something holds; returns the time then."""
        while not until():
            if not self._events or self.now > limit_s:
                raise AssertionError(f"nothing comes of it after {self.now:.3f} s")
            self.now, _, event = heapq.heappop(self._events)
            event()
        return self.now


class Link:
    """One direction: a queue with a rate, in bytes a second."""

    def __init__(self, world: World, rate: float = float("inf")) -> None:
        self._world = world
        self.rate = rate
        self.bytes = 0
        self._free_at = 0.0

    def send(self, size: int, delay_s: float, arrived: Callable[[], None]) -> None:
        self.bytes += size
        self._free_at = max(self._world.now, self._free_at) + size / self.rate
        self._world.at(self._free_at + delay_s, arrived)


@dataclass
class Habits:
    """How a node behaves as a peer."""

    stalls_at: float = float("inf")
    """From then on it answers nothing."""
    lies: bool = False
    answers: float = 1.0
    """Which part of the requests it answers at all."""
    tells: bool = True
    """Whether it answers questions."""
    says_yes: bool = False
    """Says of everything that it has it."""
    fails: bool = False


@dataclass
class Content:
    """References as a content has them: a root, nodes, leaves; each known by those above."""

    count: int
    size: int = 32 * 1024
    arity: int = 512
    seed: int = 0
    references: list[Reference] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.references = [
            Reference(b"%08x" % self.seed + b"%024x" % number) for number in range(self.total)
        ]

    @property
    def _nodes(self) -> int:
        return -(-self.count // self.arity) if self.count > 1 else 0

    @property
    def total(self) -> int:
        has_root = self._nodes > 1
        return self.count + self._nodes + has_root

    @property
    def bytes(self) -> int:
        return self.total * self.size

    def children(self, number: int) -> range:
        """The numbers of the blocks that this one names."""
        tops = 1 if self._nodes > 1 else 0
        if tops and number == 0:
            return range(1, 1 + self._nodes)
        if number < tops + self._nodes:
            first = tops + self._nodes + (number - tops) * self.arity
            return range(first, min(first + self.arity, self.total))
        return range(0)


class Node:
    """A daemon on the net: its links, its blocks, and what it does as a peer."""

    def __init__(
        self,
        world: World,
        *,
        up: float = float("inf"),
        down: float = float("inf"),
        habits: Habits | None = None,
        seed: int = 0,
    ) -> None:
        self.world = world
        self.up, self.down = Link(world, up), Link(world, down)
        self.habits = habits or Habits()
        self.has: set[Reference] = set()
        self.gave = 0
        self.asked: list[Reference] = []
        self.questions = 0
        self._random = random.Random(seed)

    def _answers(self) -> bool:
        return (
            self.world.now < self.habits.stalls_at and self._random.random() < self.habits.answers
        )

    def get(self, reference: Reference) -> str | None:
        """What it answers: block, wrong, missing, failed; None: nothing."""
        self.asked.append(reference)
        if not self._answers():
            return None
        if self.habits.fails:
            return "failed"
        if self.habits.lies:
            return "wrong"
        return "block" if reference in self.has else "missing"

    def find(self, references: Sequence[Reference]) -> list[bool] | str | None:
        """What it has; refused; None: nothing."""
        self.questions += 1
        if not self._answers():
            return None
        if not self.habits.tells:
            return "refused"
        if self.habits.says_yes or self.habits.lies:
            return [True] * len(references)
        return [reference in self.has for reference in references]


class Reader:
    """Reads a content by a session, as a client of a daemon does: a window, half of it refilled."""

    def __init__(
        self,
        node: Node,
        content: Content,
        *,
        place: int = 1,
        window: int = 256,
        patience_s: float = 10.0,
    ) -> None:
        self.node, self.content, self.world = node, content, node.world
        self.session = Session(place=place, patience_s=patience_s)
        self.peers: dict[int, tuple[Node, float]] = {}
        self.got = 0
        self.lost: dict[Reference, bool] = {}
        self.done_at: float | None = None
        self.twice_asked = 0
        self._window = window
        self._numbers = itertools.count()
        self._number_of = {ref: number for number, ref in enumerate(content.references)}
        self._known = [0]
        self._under_way: set[Reference] = set()
        self._due: float | None = None
        self._open: set[tuple[int, Reference]] = set()
        self.log: dict[str, int] = {"get": 0, "find": 0}

    def add(self, node: Node, rtt_s: float, standing: Standing | None = None) -> int:
        number = next(self._numbers)
        self.peers[number] = (node, rtt_s / 2)
        self.session.join(number, standing or Standing(), self.world.now)
        return number

    def drop(self, number: int) -> None:
        if self.peers.pop(number, None) is not None:
            self._open = {key for key in self._open if key[0] != number}
            self.session.leave(number, self.world.now)
            self._act()

    def start(self) -> None:
        self._refill()
        self._act()

    @property
    def is_done(self) -> bool:
        return self.done_at is not None

    # reading

    def _refill(self) -> None:
        if len(self._under_way) > self._window // 2:
            return
        while self._known and len(self._under_way) < self._window:
            reference = self.content.references[heapq.heappop(self._known)]
            self._under_way.add(reference)
            self.session.want(reference, self.world.now, weight=self.content.size)

    def _took(self, reference: Reference) -> None:
        if reference not in self._under_way:
            return
        self._under_way.discard(reference)
        self.node.has.add(reference)
        self.got += 1
        for child in self.content.children(self._number_of[reference]):
            heapq.heappush(self._known, child)
        self._end()

    def _end(self) -> None:
        self._refill()
        if not self._under_way and not self._known:
            self.done_at = self.world.now

    # acting

    def _act(self) -> None:
        while actions := self.session.actions():
            for action in actions:
                self._do(action)
        due = self.session.due()
        if due is not None and (self._due is None or due < self._due):
            self._due = due
            self.world.at(due, lambda: self._tick(due))

    def _tick(self, due: float) -> None:
        if self._due == due:
            self._due = None
            if self.done_at is None:
                self.session.tick(self.world.now)
                self._act()

    def _do(self, action: Action) -> None:
        match action:
            case Get(peer, reference):
                self.log["get"] += 1
                assert (peer, reference) not in self._open
                self._open.add((peer, reference))
                self._send(peer, _GET, lambda: self._ask(peer, reference))
            case Find(peer, question, references):
                self.log["find"] += 1
                size = _ANSWER + 32 * len(references)
                self._send(peer, size, lambda: self._question(peer, question, references))
            case NobodyHas(reference, was_failure):
                self.lost[reference] = was_failure
                self._under_way.discard(reference)
                self._end()
            case Distrust(peer):
                self.drop(peer)

    def _send(self, peer: int, size: int, arrived: Callable[[], None]) -> None:
        if peer not in self.peers:
            return
        node, delay_s = self.peers[peer]
        self.node.up.send(size, delay_s, lambda: node.down.send(size, 0.0, arrived))

    def _back(self, peer: int, size: int, arrived: Callable[[], None]) -> None:
        node, delay_s = self.peers[peer]
        node.up.send(size, delay_s, lambda: self.node.down.send(size, 0.0, arrived))

    def _ask(self, peer: int, reference: Reference) -> None:
        if peer not in self.peers:
            return
        answer = self.peers[peer][0].get(reference)
        if answer is None:
            return
        size = _ANSWER
        if answer in ("block", "wrong"):
            size += self.content.size
            self.peers[peer][0].gave += self.content.size
        self._back(peer, size, lambda: self._answered(peer, reference, answer))

    def _answered(self, peer: int, reference: Reference, answer: str) -> None:
        if (peer, reference) not in self._open:
            return
        self._open.discard((peer, reference))
        now = self.world.now
        match answer:
            case "block":
                self.session.got(peer, reference, now)
                self._took(reference)
            case "wrong":
                self.session.wrong(peer, reference, now)
            case "missing":
                self.session.missing(peer, reference, now)
            case _:
                self.session.failed(peer, reference, now)
        self._act()

    def _question(self, peer: int, question: int, references: Sequence[Reference]) -> None:
        if peer not in self.peers:
            return
        answer = self.peers[peer][0].find(references)
        if answer is None:
            return
        present = None if isinstance(answer, str) else answer
        self._back(
            peer, _ANSWER + len(references) // 8, lambda: self._told(peer, question, present)
        )

    def _told(self, peer: int, question: int, present: list[bool] | None) -> None:
        if peer in self.peers:
            self.session.found(peer, question, present, self.world.now)
            self._act()
