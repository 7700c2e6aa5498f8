"""What full generations have is found where it is, and is not asked for elsewhere."""

from __future__ import annotations

from contextlib import closing

from eris import Reference
from kapla.storage.postgresql.backend import PostgresBackend
from kapla.storage.postgresql.filters import Asked, Filters
from kapla.storage.postgresql.generations import Generations
from kapla.storage.postgresql.settings import PostgresSettings
from kapla.storage.postgresql.writer import PostgresWriter
from tests.kapla.storage.contract.stores import make_blocks
from tests.postgres import Server


def filled(writer: PostgresWriter, generations: int, blocks: int) -> list[dict[Reference, bytes]]:
    """Full generations with some blocks each."""
    parts = [make_blocks(blocks, seed=seed) for seed in range(generations)]
    for part in parts:
        writer.put_many(part)
        writer.front.begin_another(writer.session, writer.front.generations)
    return parts


def known_by(
    filters: Filters, generations: Generations, names: list[Reference]
) -> list[set[bytes]]:
    asked = Asked(sorted(names))
    return [set(filters.may_have(number, asked)) for number in reversed(generations.full)]


def test_each_generation_is_asked_for_what_it_has(
    postgres_url: str, postgres_server: Server
) -> None:
    backend = PostgresBackend(PostgresSettings.of(postgres_url, generation_bytes=1 << 40))
    with closing(backend.writer()) as writer:
        parts = filled(writer, 3, 300)
        front, session = writer.front, writer.session
        names = [name for part in parts for name in part] + list(make_blocks(100, seed=9))
        # As long as nothing is known, all are asked for all.
        assert known_by(front.filters, front.generations, names) == [set(names)] * 3
        while front.learn(session):
            pass
        assert known_by(front.filters, front.generations, names) == list(map(set, parts))
        assert writer.find_many(names) == set(names[:900])
        assert writer.get_many(names) == {**parts[0], **parts[1], **parts[2]}
        assert writer.put_many(parts[1] | make_blocks(10, seed=5)).added == 10
        # Another front end has them from the database, with a look at each.
        other = Filters()
        steps = 0
        while other.step(session, front.generations):
            steps += 1
        assert steps == 3
        assert known_by(other, front.generations, names) == list(map(set, parts))
        # None that finds no room.
        small = Filters(most_bytes=1)
        while small.step(session, front.generations):
            pass
        unknown = [found == set(names) for found in known_by(small, front.generations, names)]
        assert sorted(unknown) == [False, True, True]
    backend.close()
    assert postgres_server.execute("SELECT count(*) FROM filters", postgres_url) == [(3,)]


def test_names_that_begin_alike_are_all_asked_for(postgres_url: str) -> None:
    alike = [b"same" + bytes([number]) * 28 for number in range(3)]
    asked = Asked([b"last" * 8, *alike])
    backend = PostgresBackend(PostgresSettings.of(postgres_url))
    with closing(backend.writer()) as writer:
        filled(writer, 1, 10)
        while writer.front.learn(writer.session):
            pass
        assert writer.front.filters.may_have(1, asked) == asked.names
    backend.close()


def test_a_generation_that_is_gone_is_forgotten(postgres_url: str) -> None:
    backend = PostgresBackend(PostgresSettings.of(postgres_url))
    with closing(backend.writer()) as writer:
        (part,) = filled(writer, 1, 50)
        front, session = writer.front, writer.session
        while front.learn(session):
            pass
        assert not front.filters.is_empty
        assert not front.filters.step(session, Generations(9, 2))
        assert front.filters.is_empty
        assert writer.get_many(list(part)) == part
    backend.close()
