"""Frames: what is made is read, nothing else is, and a prefix is reached however far back it is."""

from __future__ import annotations

import random

import pytest

from eris_fs.packed.frame import MAX_PREFIX_SIZE, InvalidFrame, compress_with, decompress_with

MIB = 1024 * 1024
WINDOW = 128 * MIB
OLD = random.Random(0).randbytes(3 * MIB)
# What was at the far end of the old comes first, and something new stands between.
NEW = OLD[: MIB // 2] + b"something new" + OLD[MIB:]


# --- with a prefix ------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 3, 9, 19])
def test_what_a_prefix_has_costs_nothing(level: int) -> None:
    new, old = NEW[: MIB // 2 + 9999], OLD[:MIB]
    frame = compress_with(new, old, level)
    assert len(frame) < 12_000
    assert frame == compress_with(new, old, level)
    assert decompress_with(frame, old, len(new), WINDOW) == new


def test_all_of_a_prefix_is_reached() -> None:
    frame = compress_with(NEW, OLD, 3)
    assert len(frame) < 5000
    assert decompress_with(frame, OLD, len(NEW), WINDOW) == NEW


@pytest.mark.parametrize("prefix", [b"", b"1234567", b"12345678", b"\x37\xa4\x30\xec" * 99])
@pytest.mark.parametrize("data", [b"x", b"12345678" * 1000], ids=len)
def test_a_prefix_is_any_bytes(prefix: bytes, data: bytes) -> None:
    frame = compress_with(data, prefix, 3)
    assert decompress_with(frame, prefix, len(data), WINDOW) == data


def test_another_prefix_gives_no_error_that_is_not_documented() -> None:
    new, old = NEW[:MIB], OLD[:MIB]
    frame = compress_with(new, old, 3)
    assert decompress_with(frame, bytes(MIB), len(new), WINDOW) != new
    for other in (b"", old[:-1]):
        with pytest.raises(InvalidFrame):
            decompress_with(frame, other, len(new), WINDOW)


def test_a_prefix_has_an_end() -> None:
    with pytest.raises(ValueError, match="64 MiB"):
        compress_with(b"x", bytes(MAX_PREFIX_SIZE + 1), 1)
