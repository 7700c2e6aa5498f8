"""Sizes, as people write them in settings and in options."""

from __future__ import annotations

import pytest

from kapla.sizes import parse_amount, parse_rate, parse_scrub_rate, parse_size, parse_store_size

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        ("0", 0),
        ("1024", 1024),
        (MIB, MIB),
        ("1048576", MIB),
        ("1048576B", MIB),
        ("7B", 7),
        ("1024 KiB", MIB),
        ("1MiB", MIB),
        ("1.5 MiB", MIB + 512 * KIB),
        ("10 GiB", 10 * GIB),
        (" 10 gib ", 10 * GIB),
        ("3 TiB", 3 * TIB),
        ("2PiB", 2 * 2**50),
        ("10G", 10 * GIB),
        ("10 g", 10 * GIB),
        ("1 M", MIB),
        ("0.5K", 512),
        ("10GB", 10 * 10**9),
        ("50 GB", 50 * 10**9),
        ("1 mb", 10**6),
        ("1.5GB", 1_500_000_000),
        # A float would lose the end of it.
        ("9007199254740993 KiB", 9007199254740993 * 1024),
        (10**30, 10**30),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "M", "MiB", "10iB", "-1 MiB", "1e9", "1,5 MiB", "1.G", "1  MiB x", "1 MiB/s", "1X"),
        *("0x10", "9" * 19, "\u0661\u0660 GiB", None, True, 1.5, [1]),
    ],
)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r"10G, 10 GiB \(2\^30 each\) or 10 GB \(10\^9\)"):
        parse_size(text)


def test_each_kind_has_its_limits() -> None:
    assert parse_store_size("1M") == MIB
    assert parse_amount("7000 PiB") == 7000 * 2**50
    assert parse_rate("32K") == 32 * KIB
    assert (parse_scrub_rate("0"), parse_scrub_rate("1T")) == (0, TIB)
    for parse, text, hint in (
        (parse_store_size, "1023K", "at least 1 MiB"),
        (parse_store_size, "9000 PiB", "less than 8 EiB"),
        (parse_amount, -1, "less than 8 EiB"),
        (parse_rate, "31K", "32 KiB a second or more"),
        (parse_rate, 2**63, "less than 8 EiB"),
        (parse_scrub_rate, "2T", "1 TiB at most"),
    ):
        with pytest.raises(ValueError, match=hint):
            parse(text)
