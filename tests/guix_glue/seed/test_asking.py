"""Servers are asked about an item once, and what they say is kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from guix_glue.errors import FetchFailed
from guix_glue.kept.public_items import PublicItems, item_mark
from guix_glue.local.store_list import ValidItem
from guix_glue.seed.asking import Asking, Known

NAR = b"\1" * 32


def item(number: int) -> ValidItem:
    return ValidItem(f"{number:032}-hello", NAR, 1000, "deriver")


@dataclass
class Servers:
    """Have narinfos of some hash parts, and cannot be asked about others."""

    public: dict[str, bytes]
    out_of_reach: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def narinfo(self, hash_part: str) -> Any:
        self.asked[hash_part] += 1
        await asyncio.sleep(0)
        if hash_part in self.out_of_reach:
            raise FetchFailed("nobody answers")
        if hash_part not in self.public:
            return None
        told = SimpleNamespace(hash_part=hash_part, nar_hash=self.public[hash_part])
        return SimpleNamespace(narinfo=SimpleNamespace(item=told, signed_urn=None))


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


def ask(servers: Servers, known: Known, items: Sequence[ValidItem]) -> bool:
    return asyncio.run(Asking(servers, known, sleep=no_sleep).ask(items))


def test_what_they_say_is_kept(tmp_path: Path) -> None:
    items = [item(number) for number in range(20)]
    public = {one.hash_part: NAR for one in items[:5]}
    # Another build of it is another content.
    public[items[5].hash_part] = bytes(32)
    servers = Servers(public)
    known = Known([], tmp_path)
    assert ask(servers, known, items)
    assert set(servers.asked.values()) == {1}
    answers = Known([], tmp_path).read()
    marks = [item_mark(one.hash_part, one.nar_hash) for one in items]
    assert answers.yes == set(marks[:5])
    assert answers.no == set(marks[5:])
    assert not answers.noted


def test_others_may_know_better(tmp_path: Path) -> None:
    first, second = Known([], tmp_path, "aa"), Known([], tmp_path, "bb")
    ask(Servers({}), first, [item(1)])
    assert first.read().no
    assert not second.read().no
    second.forget_others()
    assert not first.read().no


def test_who_cannot_be_asked_says_nothing(tmp_path: Path) -> None:
    items = [item(number) for number in range(40)]
    servers = Servers({items[0].hash_part: NAR}, [one.hash_part for one in items[1:]])
    known = Known([], tmp_path)
    assert not ask(servers, known, items)
    # It is no use to go on where nobody answers.
    assert len(servers.asked) < 20
    answers = known.read()
    assert not answers.no
    assert answers.yes == {item_mark(items[0].hash_part, NAR)}


def test_what_was_fetched_counts_wherever_it_was_noted(tmp_path: Path) -> None:
    places = [tmp_path / "root", tmp_path / "own"]
    known = Known(places, tmp_path)
    before = known.stamp()
    for number, place in enumerate(places):
        PublicItems(place).note(item(number).hash_part, NAR)
    assert known.read().noted == {item_mark(item(number).hash_part, NAR) for number in (0, 1)}
    assert known.stamp() != before
