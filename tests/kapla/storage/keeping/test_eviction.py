"""A store with a cap makes room: the oldest go, what is read or kept stays."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import BlockSize, Reference
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.writer import SqliteWriter
from tests.kapla.storage.databases import forge, make_blocks, opened, settings_for
from tests.kapla.storage.keeping.stores import MIB, check, fill, hold, ids_of, stored_bytes

both_sizes = pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)


@both_sizes
def test_three_times_the_cap_fits_and_the_newest_are_there(tmp_path: Path, size: BlockSize) -> None:
    store_settings = settings_for(tmp_path, max_size=3 * MIB, generation=256)
    blocks = make_blocks(9 * MIB // size, size)
    names = list(blocks)
    with opened(store_settings) as store:
        for start in range(0, len(names), 32):
            fill(store, {name: blocks[name] for name in names[start : start + 32]})
            assert store.writer._space.room.file_bytes() <= 3 * MIB
        found = check(store, store_settings.path, names)
        # In the order of arrival: what is left is what came last.
        assert found == set(names[-len(found) :])
        assert len(found) * size > 2 * MIB
        assert store.reader.get_many(names[-len(found) :]) == {
            name: blocks[name] for name in names[-len(found) :]
        }
        store.writer.checkpoint()
        assert stored_bytes(store_settings) <= 3 * MIB


def test_what_is_put_again_after_it_went_is_new(tmp_path: Path) -> None:
    blocks, others = make_blocks(500), make_blocks(4000, seed=1)
    with opened(settings_for(tmp_path, max_size=2 * MIB)) as store:
        fill(store, blocks)
        fill(store, others)
        assert store.reader.find_many(list(blocks)) == set()
        assert store.writer.put_many(blocks).added == len(blocks)
        assert store.reader.get_many(list(blocks)) == blocks


@pytest.mark.parametrize("how", ["get", "find", "put"])
def test_what_is_read_stays_and_what_is_not_goes(tmp_path: Path, how: str) -> None:
    read, unread = make_blocks(100, seed=1), make_blocks(400, seed=2)
    with opened(settings_for(tmp_path, max_size=2 * MIB, generation=128)) as store:
        fill(store, dict([*read.items(), *unread.items()]))
        for seed in range(3, 60):
            if how == "get":
                assert store.reader.get_many(list(read)) == read
            elif how == "find":
                assert store.reader.find_many(list(read)) == set(read)
            else:
                assert store.writer.put_many(read).added == 0
            fill(store, make_blocks(100, seed=seed))
        assert store.reader.get_many(list(read)) == read
        assert not store.reader.find_many(list(unread))


def test_what_is_held_is_not_touched_and_goes_when_it_is_released(tmp_path: Path) -> None:
    blocks = make_blocks(400)
    store_settings = settings_for(tmp_path, max_size=2 * MIB, generation=128)
    with opened(store_settings) as store:
        fill(store, blocks)
        held = list(blocks)[100:300]
        ids = ids_of(store, held)
        opened_hold = hold(store, held)
        for seed in range(1, 30):
            fill(store, make_blocks(200, seed=seed))
        assert ids_of(store, blocks) == ids
        store.writer._database.keeping.end_hold(opened_hold)
        # The hand goes back: these are the first that go now.
        before = ids_of(store, _names(range(1, 30)))
        fill(store, make_blocks(60, seed=30))
        assert len(ids_of(store, held)) < len(held)
        assert ids_of(store, before) == before
        for seed in range(31, 35):
            fill(store, make_blocks(200, seed=seed))
        check(store, store_settings.path, [*blocks, *_names(range(1, 35))])
        assert not store.reader.find_many(held)


def _names(seeds: range) -> list[Reference]:
    return [name for seed in seeds for name in make_blocks(200, seed=seed)]


def test_where_all_is_kept_new_blocks_are_refused_as_far_as_they_find_no_room(
    tmp_path: Path,
) -> None:
    blocks = make_blocks(1300)
    with opened(settings_for(tmp_path, max_size=2 * MIB)) as store:
        fill(store, blocks)
        hold(store, blocks)
        new = make_blocks(2000, seed=1)
        result = store.writer.put_many(new)
        assert 0 < len(result.refused) < len(new)
        assert result.added == len(new) - len(result.refused)
        assert "pinned" in store.writer.why_full()
        assert "max-size" in store.writer.why_full()
        # What is there is there, and what is known is welcome.
        assert store.reader.get_many(list(blocks)) == blocks
        assert store.writer.put_many(blocks) == (0, frozenset())
        assert store.writer._space.room.file_bytes() <= 2 * MIB


@pytest.mark.parametrize(
    ("pages", "kept"), [(26, 120), (28, 160), (30, 180), (34, 240), (36, 240), (38, 300), (46, 380)]
)
def test_what_was_taken_beside_what_is_kept_does_not_go_at_once(
    tmp_path: Path, pages: int, kept: int
) -> None:
    blocks = make_blocks(kept)
    with opened(settings_for(tmp_path, max_size=pages * 16384, generation=32)) as store:
        fill(store, blocks)
        hold(store, blocks)
        for seed in range(1, 40):
            new = make_blocks(2, seed=seed)
            result = store.writer.put_many(new)
            taken = set(new) - result.refused
            assert store.reader.find_many(list(new)) >= taken
            for _ in range(5):
                store.writer.chore(is_idle=True)
            assert store.reader.find_many(list(new)) >= taken
            if result.refused:
                break


def test_a_smaller_cap_takes_effect_without_a_put_and_gives_the_file_back(tmp_path: Path) -> None:
    blocks = make_blocks(6000)
    with opened(settings_for(tmp_path)) as store:
        fill(store, blocks)
    store_settings = settings_for(tmp_path, max_size=2 * MIB)
    with opened(store_settings) as store:
        while store.writer.keeper.chore(is_idle=True) == 0.0:
            pass
        found = check(store, store_settings.path, blocks)
        assert found == set(list(blocks)[-len(found) :])
        store.writer.checkpoint()
        assert stored_bytes(store_settings) <= 2 * MIB


def test_an_id_is_not_given_again_though_the_newest_have_gone(tmp_path: Path) -> None:
    kept, others = make_blocks(800), make_blocks(900, seed=1)
    store_settings = settings_for(tmp_path, max_size=2 * MIB)
    with opened(store_settings) as store:
        fill(store, kept)
        held = hold(store, kept)
        fill(store, others)
        newest = max(ids_of(store, others).values())
        # All that came after what is held goes, the newest too.
        while store.writer._space._evictor.evict(MIB):
            pass
        assert check(store, store_settings.path, [*kept, *others]) == set(kept)
        assert held
    with opened(store_settings) as store:
        new = make_blocks(10, seed=2)
        fill(store, new)
        assert min(ids_of(store, new).values()) > newest


def test_stale_places_do_not_gather_in_the_index(tmp_path: Path) -> None:
    store_settings = settings_for(tmp_path, max_size=2 * MIB, generation=128)
    with opened(store_settings) as store:
        for seed in range(60):
            fill(store, make_blocks(200, seed=seed))
            while store.writer.keeper.chore(is_idle=False) == 0.0:
                pass
        live = sum(store.reader.totals().values())
        with closing(sqlite3.connect(store_settings.path)) as connection:
            (places,) = connection.execute("SELECT count(*) FROM places").fetchone()
        assert places < 2 * live
        check(
            store,
            store_settings.path,
            [name for seed in range(60) for name in make_blocks(200, seed=seed)],
        )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 300)),
        st.tuples(st.sampled_from(["read", "again", "hold"]), st.integers(0, 10**6)),
        st.tuples(st.sampled_from(["release", "chore", "restart", "rebuild"]), st.just(0)),
    ),
    min_size=5,
    max_size=40,
)


@given(steps=STEPS, seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_whatever_is_done_the_store_is_what_it_says_and_keeps_what_it_must(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], seed: int
) -> None:
    source = random.Random(seed)
    directory = tmp_path_factory.mktemp("store")
    known: dict[Reference, bytes] = {}
    held: dict[Reference, int] = {}

    def some(count: int) -> list[Reference]:
        names = list(known)[-1000:]
        at = source.randrange(max(1, len(names)))
        return names[at : at + count]

    while steps:
        # One life, to the next restart: holds end with it.
        held.clear()
        must_rebuild = steps[0][0] == "rebuild"
        life = settings_for(directory, max_size=MIB, generation=64, rebuild_index=must_rebuild)
        with opened(life) as store:
            holds = []
            while steps:
                action, number = steps.pop(0)
                if action == "put":
                    new = dict(forge(source.getrandbits(64), len(known) + n) for n in range(number))
                    if source.random() < 0.1:
                        number %= 20
                        new = dict(
                            forge(source.getrandbits(64), len(known) + n, BlockSize.LARGE)
                            for n in range(number)
                        )
                    refused = store.writer.put_many(new).refused
                    assert not refused or held
                    known |= new
                elif action == "read":
                    store.reader.get_many(some(50))
                elif action == "again":
                    names = some(50)
                    result = store.writer.put_many({name: known[name] for name in names})
                    assert store.reader.find_many(names) == set(names) - result.refused
                elif action == "hold":
                    names = some(number % 200)
                    held |= ids_of(store, names)
                    holds.append(hold(store, names))
                elif action == "release" and holds:
                    store.writer._database.keeping.end_hold(holds.pop())
                    held.clear()
                    left = store.writer._database.keeping.safe()
                    ids = ids_of(store, known)
                    held |= {name: at for name, at in ids.items() if at in left}
                elif action == "chore":
                    store.writer.keeper.chore(is_idle=source.random() < 0.5)
                elif action in ("restart", "rebuild"):
                    break
                assert ids_of(store, held) == held
                assert store.writer._space.room.file_bytes() <= MIB
            while store.writer.keeper.chore(is_idle=True) == 0.0:
                pass
            found = check(store, life.path, known)
            assert store.reader.get_many(list(found)) == {name: known[name] for name in found}
            assert set(held) <= found


@pytest.mark.parametrize("when", ["moved", "deleted", "counted", "committed"])
def test_killed_while_blocks_go_all_is_as_before_or_as_after(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    read = make_blocks(100)
    store_settings = settings_for(tmp_path, max_size=2 * MIB, generation=128)
    names = [*read, *_names(range(1, 7))]
    with opened(store_settings) as store:
        fill(store, read)
        for seed in range(1, 7):
            fill(store, make_blocks(200, seed=seed))
        store.reader.get_many(list(read))
        evictor = store.writer._space._evictor

        def killed(*_: object) -> None:
            raise Killed

        steps = {"moved": "_move", "deleted": "_write", "counted": "_confirm"}
        if when in steps:
            monkeypatch.setattr(evictor, steps[when], killed)
            with pytest.raises(Killed):
                evictor.evict(MIB)
        else:
            evictor.evict(MIB)
        # Closing a session writes nothing.
    with opened(store_settings) as store:
        found = check(store, store_settings.path, names)
        assert set(read) <= found
        is_done = when in ("counted", "committed")
        assert (found == set(names)) is not is_done
        fill(store, make_blocks(3000, seed=9))


def test_a_damaged_page_is_passed_and_the_rest_goes(tmp_path: Path) -> None:
    blocks = make_blocks(1200)
    store_settings = settings_for(tmp_path, max_size=2 * MIB)
    with opened(store_settings) as store:
        fill(store, blocks)
        store.writer.checkpoint()
    damaged = list(blocks.values())[300]
    with store_settings.path.open("r+b") as file:
        at = file.read().index(damaged[:64])
        file.seek(at - at % 16384)
        file.write(b"\xff" * 64)
    with opened(store_settings) as store:
        for seed in range(1, 20):
            fill(store, make_blocks(200, seed=seed))
        assert not store.reader.find_many(list(blocks)[:200])
        assert not store.reader.find_many(list(blocks)[600:])
        newest = make_blocks(200, seed=19)
        assert store.reader.get_many(list(newest)) == newest


def test_a_store_that_turned_lets_the_oldest_go_first(tmp_path: Path) -> None:
    first, second = make_blocks(700), make_blocks(700, seed=1)
    store_settings = settings_for(tmp_path, max_size=2 * MIB, generation=128)
    with opened(store_settings) as store:
        fill(store, first)
        store.writer._turn()
        fill(store, second)
        assert max(ids_of(store, second).values()) < 0
        fill(store, make_blocks(600, seed=2))
        gone = set(first) - set(ids_of(store, first))
        assert gone
        assert gone == set(list(first)[: len(gone)])
        assert len(ids_of(store, second)) == len(second)
        fill(store, make_blocks(2000, seed=3))
        assert not ids_of(store, [*first, *second])
        check(store, store_settings.path, make_blocks(2000, seed=3))


def test_a_store_without_a_limit_remembers_no_reads(tmp_path: Path) -> None:
    blocks = make_blocks(10)
    with opened(settings_for(tmp_path)) as store:
        fill(store, blocks)
        store.reader.get_many(list(blocks))
        assert store.writer._database.keeping.reads is None
    with opened(settings_for(tmp_path, max_size=MIB, when_full="refuse")) as store:
        assert store.writer._database.keeping.reads is None
    with opened(settings_for(tmp_path, max_size=MIB)) as store:
        store.reader.get_many(list(blocks)[:3])
        ids = ids_of(store, list(blocks)[:3])
        assert store.writer._database.keeping.reads == Ids(ids.values())


def test_what_may_be_lent_may_be_lent_under_its_new_id(tmp_path: Path) -> None:
    read = make_blocks(50)
    with opened(settings_for(tmp_path, max_size=2 * MIB)) as store:
        fill(store, read)
        lent = store.writer._database.keeping.lent
        lent.add(ids_of(store, read).values())
        before = ids_of(store, read)
        fill(store, make_blocks(1000, seed=1))
        for seed in range(2, 12):
            assert len(store.reader.get_many(list(read))) == len(read)
            fill(store, make_blocks(200, seed=seed))
        after = ids_of(store, read)
        assert not set(before.values()) & set(after.values())
        assert all(block_id in lent for block_id in after.values())


def test_ids_go_on_above_all_where_the_last_page_is_damaged(tmp_path: Path) -> None:
    store_settings = settings_for(tmp_path, max_size=MIB)
    with opened(store_settings) as store:
        for seed in range(20):
            fill(store, make_blocks(300, seed=seed))
        newest = max(ids_of(store, make_blocks(300, seed=19)).values())
        # More ids were given than such a file can hold.
        assert newest > 2 * MIB // 1024
        store.writer.checkpoint()
    last = list(make_blocks(300, seed=19).values())[-1]
    with store_settings.path.open("r+b") as file:
        at = file.read().index(last[:64])
        file.seek(at - at % 16384)
        file.write(b"\xff" * 64)
    with opened(store_settings) as store:
        assert isinstance(store.writer, SqliteWriter)
        assert store.writer._numbering.highest >= newest
