"""Whether a map is right: compared with what servers sign, and with what is here, encoded again.

Only a difference says anything for certain about a map, and not even that it is wrong: another
version of zstd, or another level, makes another tree of the same item.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from eris.threads import settle
from guix_glue.errors import FetchFailed
from guix_glue.formats.item_map import Entry, hash_part_at, urn_of
from guix_glue.upstream.servers import Upstream

__all__ = ["Judged", "Tally", "Verdict", "Witness", "judge_all", "signed_urn"]

_AT_ONCE: Final = 16


class Verdict(Enum):
    """What becomes of an entry."""

    CONFIRMED = "confirmed"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judged:
    """An item, and what was found."""

    hash_part: str
    verdict: Verdict


Witness = Callable[[str], Awaitable[str | None]]
"""Tells the URN of the item with a hash part; None if it cannot."""


@dataclass(slots=True)
class Tally:
    """How many entries of each kind there were."""

    counts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))

    def add(self, judged: Judged) -> None:
        """Count one more."""
        self.counts[judged.verdict] += 1


async def judge_all(entries: Iterable[Entry], witness: Witness) -> AsyncGenerator[Judged, None]:
    """Compare entries with what a witness says, some at once, in the order of the answers.

    Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: what the witness raises.
    """
    left = iter(entries)
    tasks: set[asyncio.Task[Judged]] = set()
    try:
        while True:
            while len(tasks) < _AT_ONCE and (entry := next(left, None)) is not None:
                tasks.add(asyncio.create_task(_judge(entry, witness)))
            if not tasks:
                return
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in tasks:
            task.cancel()
        await settle(*tasks)


def signed_urn(upstream: Upstream) -> Witness:
    """What the narinfos of servers say, as far as they are signed by a key that counts."""

    async def ask(hash_part: str) -> str | None:
        try:
            found = await upstream.narinfo(hash_part)
        except FetchFailed:
            return None
        return None if found is None else found.narinfo.signed_urn

    return ask


async def _judge(entry: Entry, witness: Witness) -> Judged:
    hash_part = hash_part_at(entry.key)
    urn = await witness(hash_part)
    if urn is None:
        return Judged(hash_part, Verdict.UNKNOWN)
    same = urn == urn_of(entry.value)
    return Judged(hash_part, Verdict.CONFIRMED if same else Verdict.DIFFERS)
