"""Pins are changed at one front end while another one makes room."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from eris import BlockSize, Reference
from kapla.storage.pins import Hold, PinChoice
from kapla.storage.postgresql import eviction, kept, locks, pins
from kapla.storage.postgresql.eviction import Step
from kapla.storage.postgresql.writer import PostgresWriter
from tests.kapla.storage.contract.stores import MIB, OWNER, make_blocks
from tests.kapla.storage.postgresql.sessions import (
    MOST_PINS,
    becoming,
    blocks_of,
    evict,
    fronts,
    hold,
    pinned,
    step,
    turn,
)

BLOCKS, OTHERS = make_blocks(50), make_blocks(50, seed=1)


def test_a_pin_that_comes_to_keep_tells_what_went_before(postgres_url: str) -> None:
    with fronts(postgres_url) as writers:
        pinned(writers[0], BLOCKS, "a", keep=False)
        turn(writers)
        assert evict(writers) is Step.DONE
        changed = writers[1].pins.change(PinChoice(OWNER, "a"), lend=None, keep=True)
        assert (changed.keep, changed.small, changed.missing) == (True, 0, 50)
        # It is in the pin again when it comes again, and stays.
        writers[0].put_many(dict(BLOCKS))
        assert writers[1].pins.page(OWNER, (0, ""), 10)[0][0].small == 50


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_pin_that_comes_to_keep_has_what_is_just_leaving(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Also what was looked at already, and was not kept then."""
    monkeypatch.setattr(eviction, "_BATCH", 20)
    with fronts(postgres_url) as writers:
        pinned(writers[0], BLOCKS, "a", keep=False)
        pinned(writers[0], make_blocks(1, BlockSize.LARGE), "b", keep=False)
        writers[0].put_many(dict(OTHERS))
        turn(writers)
        assert {step(writers[1], writers) for _ in range(steps)} == {Step.MORE}
        for name in ("a", "b"):
            changed = writers[0].pins.change(PinChoice(OWNER, name), lend=None, keep=True)
            assert changed.missing == 0
        assert BLOCKS.keys() <= blocks_of(postgres_url)
        # Nobody begins anew because of it.
        assert [step(writers[1], writers) for _ in range(8 - steps)][-1] is Step.DONE
        kept = BLOCKS.keys() | make_blocks(1, BlockSize.LARGE).keys()
        assert blocks_of(postgres_url) == kept


def find(writer: PostgresWriter, number: int, held: Hold) -> set[Reference]:
    return writer.hold_found(list(BLOCKS), held)


def want(writer: PostgresWriter, number: int, held: Hold) -> set[Reference]:
    """What it lacks then is found when it is closed, if it is there or just leaving."""
    writer.want(number, held, list(BLOCKS))
    told = writer.pins.close(number, held, becoming("a"), MOST_PINS)
    assert told.small + told.missing == 51
    return set(BLOCKS) if not told.missing else set()


def put(writer: PostgresWriter, number: int, held: Hold) -> set[Reference]:
    assert hold(writer, held, BLOCKS) is None
    return set(BLOCKS)


@pytest.mark.parametrize("steps", range(1, 8))
@pytest.mark.parametrize("asks", [find, want, put])
def test_what_a_pin_has_of_a_generation_that_leaves_stays_whenever_it_asks(
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    asks: Callable[[PostgresWriter, int, Hold], set[Reference]],
    steps: int,
) -> None:
    """It was looked at before, and is not again."""
    monkeypatch.setattr(eviction, "_BATCH", 20)
    with fronts(postgres_url) as writers:
        number, held, _ = writers[0].pins.begin(OWNER, None, b"token")
        assert hold(writers[0], held, make_blocks(1, seed=9)) is None
        writers[0].put_many(BLOCKS | OTHERS)
        turn(writers)
        for _ in range(steps):
            step(writers[1], writers)
        has = asks(writers[0], number, held)
        # What leaves is not there for who asks; for who closes it is saved, as long as it can be.
        assert has == (set() if asks is find else set(BLOCKS))
        evict(writers)
        assert has <= blocks_of(postgres_url)


def test_what_pins_share_counts_once_where_it_is_told_who_has_too_much(postgres_url: str) -> None:
    """What a pin lacks and has come stays, while its owner has not pinned too much."""
    late, more = make_blocks(5, seed=2), make_blocks(70, seed=3)
    with fronts(postgres_url, max_pinned=100 * 1024) as writers:
        for name in ("a", "b", "c"):
            pinned(writers[0], BLOCKS, name)
        pinned(writers[0], {}, "d", lacking=list(late))
        # Another one who has too much, also by each block once.
        pinned(writers[1], more, "a", owner=OWNER + 1)
        pinned(writers[1], make_blocks(25, seed=4), "b", owner=OWNER + 1)
        lacking = make_blocks(5, seed=5)
        pinned(writers[1], {}, "c", lacking=list(lacking), owner=OWNER + 1)
        pinned(writers[1], make_blocks(4, seed=6), "d", owner=OWNER + 1)
        writers[1].put_many(late | lacking | OTHERS)
        turn(writers)
        assert evict(writers) is Step.DONE
        there = blocks_of(postgres_url)
        assert late.keys() <= there
        assert not there & lacking.keys()


def test_a_list_of_many_pins_looks_for_what_went_in_some_of_them(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the answer does not take minutes; the others are looked at the next time."""
    monkeypatch.setattr(pins, "_LOOKED_THROUGH", 4)
    with fronts(postgres_url) as writers:
        for number in range(10):
            pinned(writers[0], make_blocks(5, seed=number), str(number), keep=False)
        turn(writers)
        assert evict(writers) is Step.DONE
        told = [
            sum(pin.missing for pin in writers[0].pins.page(OWNER, (0, ""), 100)[0])
            for _ in range(2)
        ]
        assert told[0] == 4 * 5
        assert told[0] <= told[1] <= 10 * 5


def test_the_sessions_of_a_front_end_look_at_each_pin_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever does a step goes on where another one left off."""
    monkeypatch.setattr(kept, "_PART", 1)
    looked: list[int | None] = []
    look = kept.KeptAmong._look

    def noted(self: kept.KeptAmong, *arguments: Any) -> int | None:
        looked.append(look(self, *arguments))
        return looked[-1]

    monkeypatch.setattr(kept.KeptAmong, "_look", noted)
    with fronts(postgres_url, count=1) as (one,), closing(PostgresWriter(one.front)) as other:
        for number in range(6):
            pinned(one, make_blocks(5, seed=number), str(number))
        one.put_many(dict(OTHERS))
        turn([one])
        assert evict([one, other]) is Step.DONE
    # Each pin once when the generation is chosen, and once when it leaves.
    assert len(looked) == len({*looked}) * 2 == 12


def test_a_front_end_is_waited_for_until_its_session_is_gone(postgres_url: str) -> None:
    """It is to say what it read; one that was killed says nothing any more."""
    with fronts(postgres_url) as (one, other):
        one.put_many(dict(BLOCKS))
        other.front.refresh(other.session)
        other.front.say(other.session)
        turn([one])
        evictor = one._room.evictor
        assert evictor.step(MIB) is Step.ENOUGH
        assert evictor.step(1 << 40) is Step.MORE
        assert evictor.step(1 << 40) is Step.WAITING
        # However long ago it said so is not what counts.
        one.session.connection.execute("UPDATE fronts SET seen = now() + interval '1 day'")
        other.close()
        # The server may need a moment to notice.
        while (done := evictor.step(1 << 40)) is Step.WAITING:
            pass
        assert done is Step.MORE
        assert evict([one]) is Step.DONE


def test_a_front_end_on_another_connection_is_there_again(postgres_url: str) -> None:
    with fronts(postgres_url) as (one, other):

        def there() -> int:
            found = f"SELECT count(*) FROM fronts WHERE {locks.HAS_FRONT}"
            (count,) = one.session.connection.execute(found).fetchone() or (0,)
            return int(count)

        other.front.tick(other.session)
        assert there() == 1
        other.session.close()
        # The server may need a moment to notice.
        while there():
            pass
        other.front._due["say"] = 0.0
        other.front.tick(other.session)
        assert there() == 1
