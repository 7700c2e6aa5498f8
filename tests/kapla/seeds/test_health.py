"""Whether a seed is waited for, by what it owes and since when."""

from __future__ import annotations

from kapla.seeds.health import AWAY_S, QUIET_S, Health, State


def test_one_that_owes_nothing_is_well_for_ever() -> None:
    health = Health(2)
    assert health.look(1e6) is None
    health.asked(1e6)
    assert health.look(1e6 + QUIET_S / 2) is None
    health.answered(1e6 + QUIET_S / 2)
    assert (health.look(2e6), health.has_room) == (None, True)


def test_there_is_room_for_so_many_questions() -> None:
    health = Health(2)
    health.asked(0)
    assert health.has_room
    health.asked(0)
    assert not health.has_room
    health.answered(0)
    assert health.has_room


def test_each_answer_is_a_sign_of_life_for_all_that_it_owes() -> None:
    health = Health(10)
    for _ in range(10):
        health.asked(0)
    for step in range(9):
        now = 0.2 * (step + 1)
        assert health.look(now) is None
        health.answered(now)


def test_one_that_is_quiet_is_tried_by_one_question_after_the_other() -> None:
    health = Health(10)
    health.asked(0)
    health.asked(0.2)
    assert health.look(QUIET_S) is State.QUIET
    assert not health.has_room
    assert health.may_be_tried(QUIET_S)
    health.asked(QUIET_S)
    assert not health.may_be_tried(1.9 * QUIET_S)
    assert health.may_be_tried(2 * QUIET_S)
    # It is told once.
    assert health.look(1) is None
    health.answered(1)
    assert (health.state, health.has_room, health.owed) == (State.WELL, True, 2)
    # What it still owes makes it quiet again, and the next finds out at once that it is there.
    assert health.look(1 + QUIET_S) is State.QUIET
    assert health.may_be_tried(1 + QUIET_S)


def test_one_that_is_away_is_tried_by_one_question_and_ever_more_rarely() -> None:
    health = Health(10)
    health.asked(0)
    assert health.look(QUIET_S) is State.QUIET
    now, rests = AWAY_S, []
    assert health.look(now) is State.AWAY
    for _ in range(9):
        rest = next(s for s in range(1, 200) if health.may_be_tried(now + s))
        rests.append(rest)
        health.asked(now + rest)
        assert not health.may_be_tried(now + rest)
        assert health.look(now + rest + QUIET_S / 2) is None
        assert health.look(now + rest + QUIET_S) is State.AWAY
        now += rest + QUIET_S
    assert rests == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    health.answered(now)
    assert health.has_room
    # From the beginning.
    assert health.look(now + QUIET_S) is State.QUIET
    assert health.look(now + AWAY_S) is State.AWAY
    assert health.may_be_tried(now + AWAY_S + 1)


def test_one_that_was_away_and_owes_much_is_not_asked_for_more_than_the_window() -> None:
    health = Health(1)
    health.asked(0)
    assert health.look(AWAY_S) is State.AWAY
    assert not health.may_be_tried(1000)
