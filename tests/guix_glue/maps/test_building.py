"""Items given to several encoders, and what is noted for the next run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eris.errors import StoreUnavailable
from guix_glue.maps.building import Item, NotEncoded, encode_all
from guix_glue.maps.journal import Journal, JournalInUse
from tests.guix_glue.maps.entries import a_urn, hash_parts


class Encoder:
    """Makes a URN of a place; a place that is `bad` has none, and at `end` all is over."""

    def __init__(self) -> None:
        self.under_way = self.most = self.count = 0

    async def encode(self, location: str) -> str:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            self.count += 1
            if location == "bad":
                raise NotEncoded("it is bad")
            if location == "end":
                raise StoreUnavailable("it is over")
            return f"urn of {location}"
        finally:
            self.under_way -= 1


def run(locations: list[str], count: int = 3) -> tuple[dict[str, str], list[Encoder]]:
    encoders = [Encoder() for _ in range(count)]
    found: dict[str, str] = {}

    def done(item: Item, result: str | NotEncoded) -> None:
        assert item.location not in found
        found[item.location] = str(result)

    items = [Item("0" * 32, location) for location in locations]
    asyncio.run(encode_all(items, encoders, done))
    return found, encoders


def test_each_item_is_encoded_once_by_all_of_them_together() -> None:
    places = [str(number) for number in range(100)]
    found, encoders = run([*places, "bad"])
    assert found == {**{one: f"urn of {one}" for one in places}, "bad": "it is bad"}
    assert all(0 < one.most <= 2 and one.count > 10 for one in encoders)


def test_what_is_not_about_one_item_ends_it() -> None:
    with pytest.raises(StoreUnavailable):
        run(["1", "2", "end", "3"])


def test_nothing_to_do() -> None:
    assert run([])[0] == {}


def test_a_journal_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "items.map.partial"
    one, two, three = hash_parts(3)
    with Journal.opened(path, "kind 1") as journal:
        assert journal.known == {}
        journal.note(one, a_urn(1))
        journal.note(two, a_urn(2))
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:-20])
    with Journal.opened(path, "kind 1") as journal:
        assert journal.known == {one: a_urn(1)}
        journal.note(three, a_urn(3))
    with Journal.opened(path, "kind 1") as journal:
        assert journal.known == {one: a_urn(1), three: a_urn(3)}
        journal.remove()
    assert not path.exists()


def test_what_was_noted_of_another_kind_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    with Journal.opened(path, "kind 1") as journal:
        journal.note(hash_parts(1)[0], a_urn())
    with Journal.opened(path, "kind 10") as journal:
        assert journal.known == {}
    with Journal.opened(path, "kind 10") as journal:
        assert journal.known == {}


def test_one_program_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    with (
        Journal.opened(path, "kind"),
        pytest.raises(JournalInUse, match="another"),
        Journal.opened(path, "kind"),
    ):
        pass
