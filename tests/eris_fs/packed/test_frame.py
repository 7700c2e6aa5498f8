"""Frames: what is made is read, nothing else is, and a prefix is reached however far back it is."""

from __future__ import annotations

import random

import pytest
import zstandard

from eris_fs.packed.frame import (
    MAX_LEVEL,
    MAX_PREFIX_SIZE,
    InvalidFrame,
    compress,
    compress_with,
    content_size,
    decompress,
    decompress_with,
    library_version,
)
from eris_fs.zstd import CompressionParameter, ZstdCompressor, zstd_version

MIB = 1024 * 1024
WINDOW = 128 * MIB
OLD = random.Random(0).randbytes(3 * MIB)
# What was at the far end of the old comes first, and something new stands between.
NEW = OLD[: MIB // 2] + b"something new" + OLD[MIB:]


TEXT = "\n".join(f"{number} bottles of beer on the wall" for number in range(40_000)).encode()


# --- without a prefix ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 3, 9, 19])
@pytest.mark.parametrize("size", [1, 5000, 100_000, len(TEXT)])
def test_both_libraries_make_the_same_frames(level: int, size: int) -> None:
    # So the URN of a tree would stay what it is if frames were made by the other one.
    if library_version() != zstd_version:
        pytest.skip("the two libraries have different versions of zstd")
    size = min(size, 150_000) if level == 19 else size
    data = TEXT[:size]
    other = ZstdCompressor(level).compress(data, ZstdCompressor.FLUSH_FRAME)
    assert compress(data, level) == other


@pytest.mark.parametrize("size", [1, 300, 70_000, len(TEXT)])
def test_there_and_back(size: int) -> None:
    frame = compress(TEXT[:size], 3)
    assert content_size(frame, WINDOW) == size
    assert decompress(frame, size, WINDOW) == TEXT[:size]
    for other in (size - 1, size + 1):
        with pytest.raises(InvalidFrame, match="another size"):
            decompress(frame, other, WINDOW)
    for damaged in (frame[:-1], frame + b"\0", frame + frame, b"\x50\x2a\x4d\x18\0\0\0\0" + frame):
        with pytest.raises(InvalidFrame):
            decompress(damaged, size, WINDOW)


def test_both_libraries_have_the_same_levels() -> None:
    assert CompressionParameter.compression_level.bounds()[1] == MAX_LEVEL


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


@pytest.mark.parametrize("prefix", [b"", OLD], ids=len)
def test_what_a_frame_with_a_prefix_states(prefix: bytes) -> None:
    stated = zstandard.get_frame_parameters(compress_with(TEXT, prefix, 3))
    assert stated.content_size == len(TEXT)
    assert not stated.has_checksum
    assert stated.dict_id == 0
    assert decompress_with(compress_with(TEXT, prefix, 3), prefix, len(TEXT), WINDOW) == TEXT


def test_a_frame_with_a_prefix_keeps_the_rules() -> None:
    new, old = NEW[:MIB], OLD[:MIB]
    frame = compress_with(new, old, 3)
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(new)
    for bad in (frame[:-1], frame + b"\0", frame + frame, checked, b""):
        with pytest.raises(InvalidFrame):
            decompress_with(bad, old, len(new), WINDOW)
    with pytest.raises(InvalidFrame, match="another size"):
        decompress_with(frame, old, len(new) + 1, WINDOW)


def test_a_prefix_has_an_end() -> None:
    with pytest.raises(ValueError, match="64 MiB"):
        compress_with(b"x", bytes(MAX_PREFIX_SIZE + 1), 1)
    with pytest.raises(ValueError, match="64 MiB"):
        decompress_with(compress(b"x", 1), bytes(MAX_PREFIX_SIZE + 1), 1, WINDOW)
    # Zeros that are asked for take no memory until they are read.
    with pytest.raises(ValueError, match="128 MiB"):
        compress_with(bytes(MAX_PREFIX_SIZE + 1), bytes(MAX_PREFIX_SIZE), 1)
