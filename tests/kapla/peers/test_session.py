"""What a session promises, whatever happens, in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eris.model import Reference
from kapla.peers.session import Distrust, Find, Get, NobodyHas, Session, Standing
from tests.examples import examples

REFERENCES = [Reference(bytes([number]) * 32) for number in range(8)]
PEERS = range(4)
_MOST_STEPS = 500

references = st.sampled_from(REFERENCES)
peers = st.sampled_from(PEERS)


class Sessions(RuleBasedStateMachine):
    """A session, and what is known of it from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(place=7)
        self.now = 1.0
        self.standings = {peer: Standing() for peer in PEERS}
        self.joined: set[int] = set()
        self.wanted: dict[Reference, frozenset[int]] = {}
        self.gets: list[tuple[int, Reference]] = []
        self.finds: list[Find] = []

    def act(self) -> None:
        for _ in range(_MOST_STEPS):
            actions = self.session.actions()
            if not actions:
                return
            for action in actions:
                self.take(action)
        raise AssertionError("it never comes to rest")

    def take(self, action: object) -> None:
        match action:
            case Get(peer, reference):
                assert peer in self.joined
                assert (peer, reference) not in self.gets, "asked twice at the same time"
                assert peer not in self.wanted[reference], "not to be asked for it"
                self.gets.append((peer, reference))
            case Find(peer, _, asked):
                assert peer in self.joined
                assert 0 < len(asked) <= 1024
                assert not any(peer in self.wanted.get(one, frozenset()) for one in asked)
                self.finds.append(action)
                assert sum(find.peer == peer for find in self.finds) <= 2
            case NobodyHas(reference, _):
                del self.wanted[reference]
            case Distrust(peer):
                self.drop(peer)

    def drop(self, peer: int) -> None:
        self.joined.discard(peer)
        self.gets = [get for get in self.gets if get[0] != peer]
        self.finds = [find for find in self.finds if find.peer != peer]

    # what happens

    @rule(peer=peers)
    def join(self, peer: int) -> None:
        self.drop(peer)
        self.joined.add(peer)
        self.session.join(peer, self.standings[peer], self.now)
        self.act()

    @rule(peer=peers)
    def leave(self, peer: int) -> None:
        self.drop(peer)
        self.session.leave(peer, self.now)
        self.act()

    @rule(reference=references, but=st.frozensets(peers, max_size=2))
    def want(self, reference: Reference, but: frozenset[int]) -> None:
        self.wanted[reference] = self.wanted.get(reference, frozenset()) | but
        self.session.want(reference, self.now, but=but, weight=1024)
        self.act()

    @rule(reference=references)
    def forget(self, reference: Reference) -> None:
        self.wanted.pop(reference, None)
        self.session.forget(reference)
        self.act()

    @precondition(lambda self: self.gets)
    @rule(which=st.integers(0, 99), how=st.sampled_from(["got", "missing", "failed", "wrong"]))
    def answer(self, which: int, how: str) -> None:
        peer, reference = self.gets.pop(which % len(self.gets))
        if how == "got":
            self.wanted.pop(reference, None)
        getattr(self.session, how)(peer, reference, self.now)
        self.act()

    @precondition(lambda self: self.finds)
    @rule(which=st.integers(0, 99), has=st.sets(references), tells=st.booleans())
    def tell(self, which: int, has: set[Reference], tells: bool) -> None:
        find = self.finds.pop(which % len(self.finds))
        present = [one in has for one in find.references] if tells else None
        self.session.found(find.peer, find.question, present, self.now)
        self.act()

    @rule(peer=peers, reference=references, question=st.integers(0, 99))
    def answer_unasked(self, peer: int, reference: Reference, question: int) -> None:
        if (peer, reference) in self.gets or any(find.question == question for find in self.finds):
            return
        self.session.got(peer, reference, self.now)
        self.session.missing(peer, reference, self.now)
        self.session.found(peer, question, [True], self.now)
        self.act()

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.3, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; the session is told when it wanted to be."""
        until = self.now + seconds
        for _ in range(_MOST_STEPS):
            due = self.session.due()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.session.tick(self.now)
            self.act()
        else:
            raise AssertionError("it wants to be told the time for ever")
        self.now = until

    # what holds

    @invariant()
    def nothing_is_owed_that_was_not_asked(self) -> None:
        for peer, standing in self.standings.items():
            open_gets = sum(get[0] == peer for get in self.gets)
            assert standing.owed == open_gets
            assert standing.outstanding == 1024 * open_gets

    @invariant()
    def what_is_wanted_is_still_known(self) -> None:
        assert set(self.session._books.wants) == set(self.wanted)

    def teardown(self) -> None:
        """In the end all is answered: everything that is wanted comes to an end."""
        for _ in range(60):
            while self.gets:
                self.answer(0, "missing")
            while self.finds:
                self.tell(0, set(), True)
            if not self.wanted:
                break
            self.wait(1.0)
        assert not self.wanted, "nobody ever said that nobody has it"
        assert all(standing.owed == 0 for standing in self.standings.values())


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=examples(80), stateful_step_count=40, deadline=None)


def test_who_gives_blocks_is_not_taken_for_dead_since_a_question_is_not_answered() -> None:
    """It may have others to ask, or let us wait since we ask so much."""
    session, standing, now = Session(place=7), Standing(), 1.0
    session.join(0, standing, now)
    session.join(1, Standing(), now)
    for number in range(100):
        now += 0.05
        session.want(Reference(bytes([8 + number]) * 32), now)
        session.tick(now)
        for action in session.actions():
            match action:
                case Get(0, reference):
                    session.got(0, reference, now + 0.01, 1024)
                case Get(1, reference):
                    session.missing(1, reference, now + 0.01)
                case Find(1, question, asked):
                    session.found(1, question, [False] * len(asked), now + 0.01)
        assert not standing.breaker.is_open
    assert standing.facts.blocks > 90
