"""What is known of URNs stays known, for one nar, and within bounds."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eris.capability import ReadCapability
from eris.model import BlockSize, Key, Reference, ReferenceKeyPair
from guix_glue.formats import nixbase32
from guix_glue.kept.directory import CacheDirectory
from guix_glue.model import StoreItem
from guix_glue.proxy.known_urns import KnownUrns

ITEM = StoreItem(f"/gnu/store/{'2' * 32}-app-1.1", b"n" * 32, 1_000_000, ())


def capability(number: int) -> ReadCapability:
    pair = ReferenceKeyPair(Reference(bytes([number]) * 32), Key(bytes(32)))
    return ReadCapability(BlockSize.LARGE, 1, pair)


A, B = capability(1), capability(2)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[CacheDirectory]:
    opened = CacheDirectory(tmp_path)
    yield opened
    opened.close()


def files(directory: CacheDirectory) -> list[Path]:
    return list((directory.path / "urns").iterdir())


def test_it_is_known_after_a_restart(directory: CacheDirectory) -> None:
    first = KnownUrns(directory)
    assert first.find(ITEM).good == ()
    first.note_good(ITEM, A)
    first.note_wrong(ITEM, B)
    for urns in (first, KnownUrns(directory)):
        found = urns.find(ITEM)
        assert found.good == (A,)
        assert [found.is_wrong(one, time.time()) for one in (A, B)] == [False, True]


def test_it_is_known_of_one_nar(directory: CacheDirectory) -> None:
    urns = KnownUrns(directory)
    urns.note_good(ITEM, A)
    urns.note_wrong(ITEM, B)
    for other in (
        replace(ITEM, nar_hash=b"o" * 32),
        replace(ITEM, path=ITEM.path.replace("2" * 32, "3" * 32)),
    ):
        assert urns.find(other).good == ()
        assert not urns.find(other).is_wrong(B, time.time())


def test_what_was_noted_last_counts(directory: CacheDirectory) -> None:
    urns = KnownUrns(directory)
    urns.note_wrong(ITEM, B)
    urns.note_good(ITEM, A)
    urns.note_wrong(ITEM, A)
    assert urns.find(ITEM).good == ()
    assert urns.find(ITEM).is_wrong(A, time.time())
    urns.note_good(ITEM, A)
    assert urns.find(ITEM).good == (A,)
    assert not urns.find(ITEM).is_wrong(A, time.time())
    # What is known to be wrong is not merely doubted.
    urns.note_doubted(ITEM, B)
    assert urns.find(ITEM).is_wrong(B, time.time())
    urns.note_doubted(ITEM, A)
    for found in (urns.find(ITEM), KnownUrns(directory).find(ITEM)):
        assert found.good == ()
        assert found.is_doubted(A, time.time())
        assert not found.is_doubted(A, time.time() + 40 * 86_400)
        assert not found.is_wrong(A, time.time())
    urns.note_good(ITEM, A)
    assert not urns.find(ITEM).is_doubted(A, time.time())


def test_a_damaged_file_is_as_none(directory: CacheDirectory) -> None:
    KnownUrns(directory).note_good(ITEM, A)
    (path,) = files(directory)
    content = path.read_bytes()
    for damaged in (b"", content[:-1], content.replace(b"urn:eris", b"urn:iris"), b"\0" * 100_000):
        path.write_bytes(damaged)
        assert KnownUrns(directory).find(ITEM).good == ()


def test_nobody_else_can_read_them(directory: CacheDirectory) -> None:
    KnownUrns(directory).note_good(ITEM, A)
    (path,) = files(directory)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert A.to_urn() not in repr(KnownUrns(directory).find(ITEM))


def test_only_so_many_are_kept_of_an_item(directory: CacheDirectory) -> None:
    urns = KnownUrns(directory)
    for number in range(40):
        urns.note_good(ITEM, capability(number))
        urns.note_wrong(ITEM, capability(100 + number))
    found = urns.find(ITEM)
    assert found.good == tuple(map(capability, (39, 38, 37, 36)))
    assert [found.is_wrong(capability(number), time.time()) for number in (100, 107, 108, 139)] == [
        *(False, False),
        *(True, True),
    ]
    assert KnownUrns(directory).find(ITEM) == found


def test_only_so_many_items_are_kept(directory: CacheDirectory) -> None:
    urns = KnownUrns(directory, most=20)
    for number in range(40):
        digits = nixbase32.encode(number.to_bytes(20, "big"))
        urns.note_good(replace(ITEM, path=f"/gnu/store/{digits}-app"), A)
        assert len(files(directory)) <= 20
    assert len(files(directory)) > 10


def test_what_was_not_noted_for_long_goes(directory: CacheDirectory) -> None:
    urns = KnownUrns(directory)
    urns.note_good(ITEM, A)
    (path,) = files(directory)
    os.utime(path, (1000, 1000))
    urns.expire(999)
    assert urns.find(ITEM).good == (A,)
    urns.expire(1001)
    assert urns.find(ITEM).good == ()
    assert files(directory) == []


def test_a_disk_that_fails_is_told_and_it_is_known_here(directory: CacheDirectory) -> None:
    urns = KnownUrns(directory)
    blocked = directory.path / "urns" / f"{ITEM.hash_part}.{ITEM.nar_hash.hex()[:32]}"
    blocked.mkdir()
    (blocked / "file").touch()
    with pytest.raises(OSError, match="directory"):
        urns.note_good(ITEM, A)
    assert urns.find(ITEM).good == (A,)
