"""Simulated: what a session makes of several peers, by a clock of its own.

The code is the daemon's; the links are queues with a rate and a delay. So these figures are the
same on every machine, and say nothing of TCP or of the processor.
"""

from __future__ import annotations

from typing import Final

from benchmarks.report import Row, compare, format_row, heading, single
from tests.kapla.peers.scenes import FAULTS, crowd, read_from, thousand

__all__ = ["run"]

_LINK: Final = "10 Mbit/s, 50 ms, 30 MB"


def run(rounds: int) -> list[Row]:
    """Play all once: nothing varies but the seeds, of which there are as many as rounds."""
    one, four = read_from(1), read_from(4)
    size = one.reader.content.bytes / 1e6
    rows = [
        compare(
            f"four peers, and one ({_LINK} each)",
            [size / four.took_s],
            [size / one.took_s],
            "MB/s",
            3.2,
            3.7,
            note="simulated",
        )
    ]
    rows += [_with_fifth(fault, four.took_s) for fault in FAULTS]
    rows.append(_far(read_from(1, mbit_s=100).took_s))
    rows += _crowds(rounds)
    rows += [_thousand(kind) for kind in ("all", "last", "nobody")]
    return rows


def _with_fifth(fault: str, four_s: float) -> Row:
    five = read_from(4, fault=fault, is_first=True)
    return compare(
        f"four, and a fifth that {fault}; without it".replace("that dead", "that is dead"),
        [five.took_s],
        [four_s],
        "s",
        1.15,
        1.05,
        at_most=True,
        note=f"simulated; {five.twice:.1%} of the bytes came twice",
    )


def _far(took_s: float) -> Row:
    ideal_s = read_from(1).reader.content.bytes / 12_500_000
    return compare(
        "one peer, 100 Mbit/s, 50 ms; its rate alone",
        [took_s],
        [ideal_s],
        "s",
        1.2,
        at_most=True,
        note="simulated; the three levels take 0.15 s",
    )


def _crowds(rounds: int) -> list[Row]:
    played = [crowd(seed=seed + 1) for seed in range(rounds)]
    return [
        compare(
            f"crowd of ten ({_LINK}), what leaves the first; the content",
            [one.left_first * 31.6 for one in played],
            [31.6 for _ in played],
            "MB",
            3,
            2,
            at_most=True,
            note="simulated",
        ),
        single(
            "crowd of ten, bytes that come twice",
            [100 * one.twice for one in played],
            "%",
            5,
            at_most=True,
            note="simulated",
        ),
    ]


def _thousand(kind: str) -> Row:
    played = thousand(kind)
    names = {"all": "all have it", "last": "the last has it", "nobody": "nobody has it"}
    return single(f"a thousand peers, 3 MB: {names[kind]}", [played.took_s], "s", note="simulated")


if __name__ == "__main__":
    print(heading())
    for row in run(3):
        print(format_row(row))
