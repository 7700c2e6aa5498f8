"""A patch is as small as it gets, and has what stands before it only if that helps."""

from __future__ import annotations

import random

import pytest

from eris_fs.delta.squeeze import memory_for, squeeze
from eris_fs.packed.frame import compress_with, decompress_with

MIB = 1024 * 1024
WINDOW = 128 * MIB
_random = random.Random(8)
NOISE = _random.randbytes(200_000)
WORDS = [_random.randbytes(6).hex().encode() for _ in range(500)]
TEXT = b" ".join(_random.choices(WORDS, k=20_000))


@pytest.mark.parametrize("level", [1, 3, 19])
def test_what_the_base_has_is_next_to_nothing(level: int) -> None:
    made = squeeze(NOISE, NOISE, level)
    assert made.prefixed
    assert len(made.stored) < 1000
    assert decompress_with(made.stored, NOISE, len(NOISE), WINDOW) == NOISE


def test_a_base_that_does_not_help_is_left_out() -> None:
    made = squeeze(TEXT, NOISE, 3)
    assert not made.prefixed
    assert made.stored == compress_with(TEXT, b"", 3)


def test_what_cannot_be_compressed_stays_as_it_is() -> None:
    made = squeeze(NOISE, b"", 19)
    assert (made.stored, made.prefixed) == (NOISE, False)
    assert squeeze(b"a", b"aaaaaaaaaaaa", 19).stored == b"a"


def test_the_level_is_the_most_that_is_used() -> None:
    assert squeeze(TEXT, b"", 1).stored == compress_with(TEXT, b"", 1)
    both = compress_with(TEXT, b"", 3), compress_with(TEXT, b"", 19)
    assert squeeze(TEXT, b"", 19).stored == min(both, key=len)


def test_memory_grows_with_what_is_compressed_up_to_the_tables() -> None:
    assert memory_for(1000, 1000) < MIB
    assert memory_for(3 * MIB, 5 * MIB) <= 100 * MIB
