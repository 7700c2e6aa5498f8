"""Whoever waits for a pin, which may be long in closing, has nobody else wait for him."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from eris import Reference
from kapla.storage.pins import Hold
from kapla.storage.postgresql import quota
from kapla.storage.postgresql.writer import PostgresWriter
from tests.kapla.storage.contract.stores import OWNER, make_blocks
from tests.kapla.storage.postgresql.sessions import (
    MOST_PINS,
    becoming,
    fronts,
    hold,
    pinned,
    turn,
)
from tests.postgres import Server

BLOCKS = make_blocks(20)
GUARD_S = 60.0
_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Something is done in another thread, and is done in the end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(GUARD_S)
    assert not thread.is_alive()
    assert not failed, failed


def hold_all(writer: PostgresWriter, held: Hold) -> None:
    assert hold(writer, held, BLOCKS) is None


def find_all(writer: PostgresWriter, held: Hold) -> None:
    assert writer.hold_found(list(BLOCKS), held) == BLOCKS.keys()


@pytest.mark.parametrize("asks", [hold_all, find_all])
def test_who_waits_for_a_pin_has_not_the_lock_of_presence(
    postgres_url: str,
    postgres_server: Server,
    asks: Callable[[PostgresWriter, Hold], None],
) -> None:
    with fronts(postgres_url) as (one, other):
        other.put_many(dict(BLOCKS))
        number, held, _ = one.pins.begin(OWNER, None, b"token")
        other.session.connection.execute(f"SET lock_timeout = '{GUARD_S:.0f}s'".encode())
        with psycopg.connect(postgres_url) as closes:
            # As who closes it and has much to put in order.
            closes.execute("SELECT FROM pins FOR UPDATE")
            with meanwhile(lambda: asks(one, held)):
                while postgres_server.execute(_WAITING, postgres_url) == [(0,)]:
                    time.sleep(0.01)
                turn([other])
                closes.commit()
        assert one.pins.close(number, held, becoming("a"), MOST_PINS).small == 20


def test_who_looks_what_has_come_waits_without_it_too(
    postgres_url: str, postgres_server: Server
) -> None:
    with fronts(postgres_url) as (one, other):
        pinned(one, {}, "a", lacking=list(BLOCKS))
        other.put_many(dict(BLOCKS))
        other.session.connection.execute(f"SET lock_timeout = '{GUARD_S:.0f}s'".encode())
        with psycopg.connect(postgres_url) as closes:
            closes.execute("SELECT FROM pins FOR UPDATE")
            with meanwhile(lambda: one.pins.page(OWNER, (0, ""), 10)):
                while postgres_server.execute(_WAITING, postgres_url) == [(0,)]:
                    time.sleep(0.01)
                turn([other])
                closes.commit()
        assert one.pins.page(OWNER, (0, ""), 10)[0][0].small == 20


def test_all_is_counted_while_nobody_waits(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an owner has pinned is counted block by block before the lock of presence is taken."""
    count = quota.Quota._count
    had: list[bool] = []

    def counted(
        self: quota.Quota, cursor: psycopg.Cursor[tuple[object, ...]], *rest: object
    ) -> None:
        row = cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        ).fetchone()
        had.append(row != (0,))
        count(self, cursor, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(quota.Quota, "_count", counted)
    with fronts(postgres_url, max_pinned=50 * 1024) as (one, other):
        for name in ("a", "b"):
            pinned(one, BLOCKS, name)
        had.clear()
        _, held, _ = other.pins.begin(OWNER, None, b"token")
        assert hold(other, held, make_blocks(10, seed=1)) is None
        assert other.hold_found(list(BLOCKS), held) == BLOCKS.keys()
        assert had
        assert not any(had)


def test_what_an_owner_pins_at_another_front_end_counts(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each front end has counted all of it, before the other one let more in."""
    monkeypatch.setattr(quota, "_FRESH_S", -1.0)
    monkeypatch.setattr(quota, "_REST", 0)
    with fronts(postgres_url, max_pinned=100 * 1024) as writers:
        for name in ("a", "b", "c"):
            pinned(writers[0], make_blocks(40), name)
        held = [
            writer.pins.begin(OWNER, None, str(number).encode())[1]
            for number, writer in enumerate(writers)
        ]
        pinned_now: dict[Reference, bytes] = make_blocks(40)
        refused = set[int]()
        for seed in range(100, 140):
            part, which = make_blocks(4, seed=seed), seed % 2
            if hold(writers[which], held[which], part) is None:
                pinned_now |= part
            else:
                refused.add(which)
        assert refused == {0, 1}
        assert len(pinned_now) == 100
