"""What is said of where the blocks of an item came from."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from guix_glue.fetch.places import Places

MIB = 1 << 20


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([{}], [""]),
        ([{"here": 3 * MIB}], [""]),
        ([{"desktop": 2 * MIB, "here": 0}], ["2.0 MiB from desktop"]),
        (
            [{"here": MIB, "desktop": 2 * MIB}, {"here": 5 * MIB, "desktop": 2 * MIB}],
            ["2.0 MiB from desktop, 1.0 MiB from here", ""],
        ),
        # Of the next item only what is new; and a new connection begins anew.
        ([{"a": MIB}, {"a": 3 * MIB}, {"a": MIB}], ["1.0 MiB from a", "2.0 MiB from a", ""]),
        (
            [{f"p{number}": number * MIB for number in range(1, 9)}],
            [
                "8.0 MiB from p8, 7.0 MiB from p7, 6.0 MiB from p6, 5.0 MiB from p5,"
                " 4.0 MiB from p4, 6.0 MiB from 3 others"
            ],
        ),
    ],
)
def test_what_is_told_of_one_item_after_the_other(
    asked: Sequence[Mapping[str, int]], told: Sequence[str]
) -> None:
    answers = iter(asked)

    async def ask() -> Mapping[str, int]:
        return next(answers)

    async def run() -> list[str]:
        places = Places(ask, "here")
        return [await places.describe() for _ in asked]

    assert asyncio.run(run()) == list(told)
