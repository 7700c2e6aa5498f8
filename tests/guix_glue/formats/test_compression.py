"""Compression: what other programs write is read, and they read what we write; nothing explodes."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from eris_fs.zstd import zstd_version
from guix_glue.errors import CompressionError
from guix_glue.formats.compression import (
    Compression,
    CompressionChoice,
    compressor,
    decompressor,
    parse_choice,
)
from tests.examples import examples
from tests.guix_glue.samples import SAMPLES

MIB = 1024 * 1024
TEXT = b"".join(b"%d bottles of beer on the wall\n" % number for number in range(9999))


def lzip(content: bytes, dictionary: int = 1 << 20, coded: int = 20) -> bytes:
    """Put a member of lzip together with no help of what is tested."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary}]
    body = lzma.compress(content, lzma.FORMAT_RAW, filters=filters)
    trailer = struct.pack("<IQQ", zlib.crc32(content), len(content), len(body) + 26)
    return b"LZIP\1" + bytes([coded]) + body + trailer


# How others compress a content.
PACKERS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: gzip.compress,
    Compression.LZIP: lzip,
    Compression.ZSTD: zstandard.ZstdCompressor(write_checksum=True).compress,
    Compression.XZ: lzma.compress,
    Compression.BZIP2: bz2.compress,
}
PACKED = {method: pack(TEXT) for method, pack in PACKERS.items()}


def unpack(method: Compression, pieces: Iterable[bytes], max_output: int = MIB) -> bytes:
    codec = decompressor(method)
    output = []
    for piece in pieces:
        for part in codec.feed(piece, max_output):
            assert 0 < len(part) <= max_output
            output.append(part)
    codec.finish()
    return b"".join(output)


def cut(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def pack(choice: CompressionChoice, content: bytes, size: int = MIB) -> bytes:
    codec = compressor(choice)
    return b"".join([*map(codec.feed, cut(content, size)), codec.finish()])


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["gz", "lz", "zst"])
@pytest.mark.parametrize("size", [1, 100, MIB])
def test_what_guix_compressed(suffix: str, size: int) -> None:
    method = {"gz": Compression.GZIP, "lz": Compression.LZIP, "zst": Compression.ZSTD}[suffix]
    plain = SAMPLES / "nar/gacyfdvxvjhmzbmhpdlcyqa7cs4m4p81-depends-0.9.nar"
    packed = plain.with_name(f"{plain.name}.{suffix}").read_bytes()
    assert unpack(method, cut(packed, size)) == plain.read_bytes()


@pytest.mark.parametrize("method", PACKERS)
@pytest.mark.parametrize(("size", "max_output"), [(1, MIB), (777, 1000), (MIB, 1), (MIB, MIB)])
def test_any_pieces(method: Compression, size: int, max_output: int) -> None:
    content = TEXT if max_output > 1 else TEXT[:5000]
    assert unpack(method, cut(PACKERS[method](content), size), max_output) == content


@pytest.mark.parametrize("method", PACKERS)
@pytest.mark.parametrize("size", [1, MIB])
def test_members_one_after_the_other(method: Compression, size: int) -> None:
    pack_it = PACKERS[method]
    packed = pack_it(b"one, ") + pack_it(b"") + pack_it(b"two") + pack_it(b"")
    assert unpack(method, cut(packed, size)) == b"one, two"


def test_many_members_take_little_time_each() -> None:
    assert unpack(Compression.GZIP, [gzip.compress(b"") * 20_000]) == b""


@pytest.mark.parametrize("method", PACKERS)
@pytest.mark.parametrize("missing", [1, 3, 9, 1000])
def test_what_is_cut_off_is_noticed(method: Compression, missing: int) -> None:
    with pytest.raises(CompressionError):
        unpack(method, [PACKED[method][:-missing]])


@pytest.mark.parametrize("method", PACKERS)
def test_nothing_is_not_the_compression_of_anything(method: Compression) -> None:
    with pytest.raises(CompressionError, match="cut off"):
        unpack(method, [])


# After gzip, zeros are padding, and after xz four of them.
@pytest.mark.parametrize("method", PACKERS)
@pytest.mark.parametrize("garbage", [b"\0\0\1", b"garbage that goes on for more than a few bytes"])
@pytest.mark.parametrize("size", [1, MIB])
def test_nothing_else_follows(method: Compression, garbage: bytes, size: int) -> None:
    with pytest.raises(CompressionError):
        unpack(method, cut(PACKED[method] + garbage, size))


@pytest.mark.parametrize("method", [Compression.LZIP, Compression.ZSTD, Compression.BZIP2])
def test_zeros_that_are_no_padding(method: Compression) -> None:
    with pytest.raises(CompressionError):
        unpack(method, [PACKED[method] + bytes(4)])


@pytest.mark.parametrize("size", [1, 3, MIB])
def test_zeros_after_gzip_are_padding(size: int) -> None:
    packed = PACKED[Compression.GZIP]
    for zeros in (1, 511, 200_000 if size > 1 else 2):
        assert unpack(Compression.GZIP, cut(packed + packed + bytes(zeros), size)) == TEXT * 2
        # gzip(1) takes what follows the padding for garbage, whatever it is.
        with pytest.raises(CompressionError, match="follows"):
            unpack(Compression.GZIP, cut(packed + bytes(zeros) + packed, size))
    with pytest.raises(CompressionError):
        unpack(Compression.GZIP, cut(bytes(4) + packed, size))


@pytest.mark.parametrize("size", [1, 3, MIB])
def test_xz_streams_are_padded_to_four_bytes(size: int) -> None:
    packed = PACKED[Compression.XZ]
    for zeros in (4, 512):
        padded = packed + bytes(zeros)
        assert unpack(Compression.XZ, cut(padded + packed + padded, size)) == TEXT * 3
        for wrong in (1, 2, 3):
            with pytest.raises(CompressionError, match="cut off"):
                unpack(Compression.XZ, cut(padded + bytes(wrong), size))
            with pytest.raises(CompressionError, match="follows"):
                unpack(Compression.XZ, cut(padded + bytes(wrong) + packed, size))
    with pytest.raises(CompressionError):
        unpack(Compression.XZ, cut(bytes(4) + packed, size))


@pytest.mark.parametrize("method", [Compression.GZIP, Compression.XZ])
def test_padding_is_what_other_programs_take_for_padding(method: Compression) -> None:
    packed = PACKED[method] + bytes(8)
    assert run((method.value, "-dcq"), packed) == unpack(method, [packed])


@pytest.mark.parametrize("method", PACKERS)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.9999])
def test_damage_is_noticed(method: Compression, place: float) -> None:
    packed = bytearray(PACKED[method])
    packed[int(len(packed) * place)] ^= 0x10
    with pytest.raises(CompressionError):
        unpack(method, [bytes(packed)])


def test_no_compression_is_any_bytes() -> None:
    assert unpack(Compression.NONE, []) == b""
    assert unpack(Compression.NONE, [TEXT, b"", b"x"], 1000) == TEXT + b"x"


@pytest.mark.parametrize("method", PACKERS)
def test_a_bomb_takes_no_memory(method: Compression) -> None:
    # Compressed twice over by parts, or making it would take long; 256 MiB of zeroes each.
    bomb = PACKERS[method](bytes(16 * MIB)) * 16
    codec = decompressor(method)
    tracemalloc.start()
    try:
        size = 0
        for piece in cut(bomb, 256 * 1024):
            for part in codec.feed(piece, MIB):
                assert len(part) <= MIB
                size += len(part)
        codec.finish()
        assert size == 256 * MIB
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


def test_a_bomb_can_be_left_alone_after_its_first_piece() -> None:
    codec = decompressor(Compression.ZSTD)
    # Each four bytes are a block of 128 KiB.
    block = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    bomb = b"\x28\xb5\x2f\xfd\x00\x58" + block * 1_000_000
    pieces = list(islice(codec.feed(bomb, MIB), 3))
    assert pieces == [bytes(MIB)] * 3


# --- zstd ---------------------------------------------------------------------------------------


ZSTD_FRAMES = [
    zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=sized).compress(content)
    for content in (b"", b"x", TEXT, TEXT * 5, bytes(3 * MIB))
    for checksum in (False, True)
    for sized in (False, True)
]


@pytest.mark.parametrize("frame", ZSTD_FRAMES, ids=len)
def test_all_kinds_of_zstd_frames(frame: bytes) -> None:
    content = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    assert unpack(Compression.ZSTD, [frame]) == content
    assert unpack(Compression.ZSTD, cut(frame + frame, 333)) == content * 2
    with pytest.raises(CompressionError, match="cut off"):
        unpack(Compression.ZSTD, [frame[:-1]])


@pytest.mark.parametrize("size", [1, MIB])
def test_skippable_frames_are_skipped(size: int) -> None:
    skipped = struct.pack("<II", 0x184D2A53, 5) + b"hello"
    empty = struct.pack("<II", 0x184D2A50, 0)
    stream = skipped + PACKED[Compression.ZSTD] + empty + skipped
    assert unpack(Compression.ZSTD, cut(stream, size)) == TEXT
    with pytest.raises(CompressionError, match="cut off"):
        unpack(Compression.ZSTD, cut(stream[:-1], size))


@pytest.mark.parametrize("size", [1, 4, 10, MIB])
@pytest.mark.parametrize("last", [b"", b"\1\0\0"])
def test_a_frame_holds_as_much_as_it_says(size: int, last: bytes) -> None:
    # A raw block of five bytes, which is the last or is followed by one that is empty.
    block = (5 << 3 | (not last)).to_bytes(3, "little") + b"hello" + last
    for descriptor, window, field in (
        (0x20, b"", "<B"),
        (0x60, b"", "<H"),
        (0x80, b"\x58", "<I"),
        (0xC0, b"\x58", "<Q"),
    ):
        bias = 256 if field == "<H" else 0
        for said in (0, 4, 5, 6, 200, 100_000_000, 1 << 62):
            if not 0 <= said - bias < 1 << 8 * struct.calcsize(field):
                continue
            head = b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + window
            frame = head + struct.pack(field, said - bias) + block
            if said == 5:
                assert unpack(Compression.ZSTD, cut(frame + frame, size)) == b"hellohello"
            else:
                with pytest.raises(CompressionError, match="zstd"):
                    unpack(Compression.ZSTD, cut(frame, size))


def test_a_zstd_window_is_bounded() -> None:
    def frame(window_log: int) -> bytes:
        # A magic number, no flags, a window, and one last block that is raw and empty.
        return b"\x28\xb5\x2f\xfd\x00" + bytes([window_log - 10 << 3]) + b"\1\0\0"

    assert unpack(Compression.ZSTD, [frame(27)]) == b""
    with pytest.raises(CompressionError, match="zstd"):
        unpack(Compression.ZSTD, [frame(28)])


# --- lzip ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"LZIQ\1\x14", "not lzip"),
        (b"LZIP\0\x14", "version"),
        (b"LZIP\1\x0b", "none has"),
        (b"LZIP\1\x2c", "none has"),
        (b"LZIP\1\x1e", "none has"),
        (b"LZIP\1\x1d", "memory"),
        (b"LZIP\1\xfc", "memory"),
    ],
)
def test_lzip_headers_that_are_refused(header: bytes, why: str) -> None:
    with pytest.raises(CompressionError, match=why):
        unpack(Compression.LZIP, [header + lzip(b"x")[6:]])


@pytest.mark.parametrize("field", [0, 4, 12])
def test_each_field_of_the_lzip_trailer_counts(field: int) -> None:
    packed = bytearray(lzip(TEXT))
    packed[len(packed) - 20 + field] ^= 1
    with pytest.raises(CompressionError, match="trailer"):
        unpack(Compression.LZIP, [bytes(packed)])


@pytest.mark.parametrize(
    ("coded", "dictionary"),
    [(12, 4096), (0xD3, 320 * 1024), (0x35, 2 * MIB * 15 // 16), (27, 128 * MIB)],
)
def test_sizes_of_lzip_dictionaries(coded: int, dictionary: int) -> None:
    # The data needs no less than it says: all that it refers to is that far back.
    content = bytes(range(256)) * 2
    assert unpack(Compression.LZIP, [lzip(content, dictionary, coded)]) == content


# --- writing ------------------------------------------------------------------------------------

CHOICES = [
    CompressionChoice(Compression.NONE, 0),
    *(CompressionChoice(Compression.GZIP, level) for level in (1, 3, 9)),
    *(CompressionChoice(Compression.LZIP, level) for level in range(1, 10)),
    *(CompressionChoice(Compression.ZSTD, level) for level in (1, 3, 19)),
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda one: f"{one.method.value}:{one.level}")
@pytest.mark.parametrize("content", [b"", b"x", TEXT], ids=len)
def test_there_and_back(choice: CompressionChoice, content: bytes) -> None:
    packed = pack(choice, content)
    assert packed == pack(choice, content, 1000)
    assert unpack(choice.method, [packed]) == content
    if choice.method in PACKERS and content is TEXT:
        assert len(packed) < len(content) / 3


@pytest.mark.parametrize("method", [Compression.GZIP, Compression.LZIP, Compression.ZSTD])
def test_a_level_has_its_effect(method: Compression) -> None:
    digits = "".join(hashlib.sha256(bytes([n % 251])).hexdigest()[: n % 64] for n in range(9000))
    low, high = (len(pack(CompressionChoice(method, level), digits.encode())) for level in (1, 9))
    assert high < low


@pytest.mark.parametrize("level", [1, 3, 19])
def test_zstd_is_the_bytes_of_zstandard(level: int) -> None:
    # A nar that is baked again is the same file, whatever library it is made with.
    if zstd_version != ".".join(map(str, zstandard.ZSTD_VERSION)):
        pytest.skip("the two libraries have different versions of zstd")
    codec = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
    expected = codec.compress(TEXT) + codec.flush()
    assert pack(CompressionChoice(Compression.ZSTD, level), TEXT, 10_000) == expected


READERS: dict[Compression, list[tuple[str, ...]]] = {
    Compression.GZIP: [("gzip", "-dc")],
    Compression.LZIP: [("lzip", "-dc"), ("xz", "-dc", "--format=lzip")],
    Compression.ZSTD: [("zstd", "-dcq")],
}
WRITERS = {
    Compression.GZIP: ("gzip", "-c"),
    Compression.LZIP: ("lzip", "-c"),
    Compression.ZSTD: ("zstd", "-cq", "--long=27"),
    Compression.XZ: ("xz", "-c9"),
    Compression.BZIP2: ("bzip2", "-c"),
}


def run(command: tuple[str, ...], data: bytes) -> bytes:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)
    if b"Unknown file format" in done.stderr:
        pytest.skip(f"this {command[0]} knows no lzip")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("method", "command"),
    [(method, command) for method, commands in READERS.items() for command in commands],
    ids=str,
)
def test_other_programs_read_what_we_write(method: Compression, command: tuple[str, ...]) -> None:
    for level in (1, 9):
        assert run(command, pack(CompressionChoice(method, level), TEXT)) == TEXT


@pytest.mark.parametrize("method", WRITERS)
def test_we_read_what_other_programs_write(method: Compression) -> None:
    packed = run(WRITERS[method], TEXT)
    assert unpack(method, [packed]) == TEXT
    assert unpack(method, cut(packed + packed, 99)) == TEXT * 2


# --- choosing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "method", "level"),
    [
        ("gzip", Compression.GZIP, 3),
        ("zstd:19", Compression.ZSTD, 19),
        ("lzip:9", Compression.LZIP, 9),
        ("7", Compression.GZIP, 7),
        ("0", Compression.NONE, 0),
        ("lzip:0", Compression.NONE, 0),
        ("none", Compression.NONE, 0),
        ("none:0", Compression.NONE, 0),
    ],
)
def test_choices(text: str, method: Compression, level: int) -> None:
    assert parse_choice(text) == CompressionChoice(method, level)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "brotli", "GZIP", "xz", "bzip2:9", "gzip:10", "10", "lzip:10", "zstd:20"),
        *("none:1", "gzip:", "gzip:x", "gzip:-1", "-1", "gzip:+1", "gzip:1.5", "gzip:٣", "٣"),
        "zstd:" + "9" * 5000,
    ],
)
def test_choices_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"compress|level|written"):
        parse_choice(text)


@pytest.mark.parametrize(("method", "level"), [(Compression.XZ, 1), (Compression.NONE, 1)])
def test_a_choice_is_always_one(method: Compression, level: int) -> None:
    with pytest.raises(ValueError, match=r"levels|written"):
        CompressionChoice(method, level)


# --- anything -----------------------------------------------------------------------------------


@given(method=st.sampled_from(sorted(PACKERS, key=str)), data=st.binary(max_size=300))
def test_any_bytes_are_decompressed_or_refused(method: Compression, data: bytes) -> None:
    heads = {Compression.LZIP: b"LZIP\1\x14", Compression.ZSTD: b"\x28\xb5\x2f\xfd"}
    for head in (b"", heads.get(method, PACKED[method][:10])):
        try:
            unpack(method, [head + data])
        except CompressionError:
            continue


@settings(max_examples=examples(300))
@given(
    method=st.sampled_from(sorted(PACKERS, key=str)),
    place=st.integers(0),
    change=st.integers(1, 255),
    removed=st.integers(0, 20),
    size=st.integers(1, 5000),
)
def test_a_changed_stream_is_refused_or_means_the_same(
    method: Compression, place: int, change: int, removed: int, size: int
) -> None:
    packed = PACKED[method]
    place %= len(packed)
    changed = packed[:place] + bytes([packed[place] ^ change]) + packed[place + 1 + removed :]
    # Some bits say nothing, as the time in a header of gzip; what they all are is checked.
    with suppress(CompressionError):
        assert unpack(method, cut(changed, size)) == TEXT
