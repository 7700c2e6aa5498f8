"""The encode cache by itself: what it promises whoever asks it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from kapla.encode_cache import EncodeCache, default_cache_path
from tests.nobody import become_nobody

SECRET = bytes(32)


def open_cache(path: Path, variant: str = "auto", **more: int) -> EncodeCache:
    return EncodeCache(path, secret=SECRET, variant=variant, **more)


def known(number: int, blocks: int = 1) -> tuple[bytes, bytes]:
    return bytes([number]) * 66, bytes([number]) * 32 * blocks


def test_what_was_remembered_is_recalled_by_another_run(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "encode.sqlite"
    cache = open_cache(path)
    keys = [cache.content_key(b"%d" % number) for number in range(600)]
    assert cache.recall(keys) == [None] * 600
    cache.remember([(key, known(number % 256)) for number, key in enumerate(keys)])
    cache.close()
    again = open_cache(path)
    assert again.recall([*keys, bytes(32)]) == [*(known(n % 256) for n in range(600)), None]
    assert again.recall([]) == []
    again.close()


def test_a_key_in_pieces_is_the_key_of_the_whole(tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "c")
    state = cache.start_key()
    for piece in (b"a", b"", b"bc" * 5000):
        state.update(piece)
    assert state.digest() == cache.content_key(b"a" + b"bc" * 5000)


def test_keys_depend_on_content_secret_and_variant(tmp_path: Path) -> None:
    path = tmp_path / "c"
    caches = [
        open_cache(path),
        open_cache(path, "1KiB"),
        EncodeCache(path, secret=b"\1" * 32, variant="auto"),
    ]
    keys = {cache.content_key(content) for cache in caches for content in (b"", b"a")}
    assert len(keys) == 6


def test_its_mode_is_for_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "new" / "c"
    open_cache(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 100])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(damage)
    cache = open_cache(path)
    key = cache.content_key(b"a")
    cache.remember([(key, known(1))])
    assert cache.recall([key]) == [known(1)]
    cache.close()


@pytest.mark.parametrize("use", ["recall", "remember", "close"])
def test_a_file_damaged_in_its_middle_is_begun_anew_by_the_next_run(
    tmp_path: Path, use: str
) -> None:
    path = tmp_path / "c"
    cache = open_cache(path)
    keys = [cache.content_key(b"%d" % number) for number in range(500)]
    cache.remember([(key, known(1, 10)) for key in keys])
    cache.close()
    content = path.read_bytes()
    # The first page, which says that it is a database and what is in it, stays.
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

    cache = open_cache(path, max_bytes=1)
    if use == "recall":
        assert cache.recall(keys) == [None] * 500
    elif use == "remember":
        cache.remember([(keys[0], known(1))])
    cache.close()
    assert list(tmp_path.iterdir()) == []

    again = open_cache(path)
    again.remember([(keys[0], known(1))])
    assert again.recall(keys[:1]) == [known(1)]
    again.close()


def test_a_file_that_is_only_busy_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "c"
    cache = open_cache(path)
    cache._give_up(sqlite3.OperationalError("database is locked"))
    assert path.exists()
    assert cache.recall([bytes(32)]) == [None]


def test_an_altered_entry_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "c"
    cache = open_cache(path)
    keys = [cache.content_key(content) for content in (b"a", b"b", b"c", b"d")]
    cache.remember([(key, known(number)) for number, key in enumerate(keys)])
    cache.close()
    with sqlite3.connect(path) as connection:
        change = "UPDATE contents SET {} WHERE key = ?"
        connection.execute(change.format("value = zeroblob(130)"), (keys[0],))
        connection.execute(change.format("value = substr(value, 1, 66)"), (keys[1],))
        # Somebody else's good entry under this key.
        other = "(SELECT {0} FROM contents WHERE key = ?2)"
        both = f"value = {other.format('value')}, checksum = {other.format('checksum')}"
        connection.execute(f"UPDATE contents SET {both} WHERE key = ?1", (keys[2], keys[3]))
    connection.close()
    again = open_cache(path)
    assert again.recall(keys) == [None, None, None, known(3)]
    again.close()


def test_it_stays_within_its_size_and_keeps_what_is_used(tmp_path: Path) -> None:
    path = tmp_path / "c"
    cache = open_cache(path)
    keys = [cache.content_key(bytes([number])) for number in range(100)]
    cache.remember([(key, known(number, blocks=100)) for number, key in enumerate(keys)])
    cache.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE contents SET used = used - 100000")
    connection.close()
    used = open_cache(path, max_bytes=100_000)
    assert used.recall(keys[:5]) == [known(number, blocks=100) for number in range(5)]
    used.close()
    after = open_cache(path)
    left = [number for number, found in enumerate(after.recall(keys)) if found is not None]
    assert set(range(5)) <= set(left)
    assert len(left) * 3200 < 100_000
    after.close()


def test_it_stays_within_its_size_while_it_is_open(tmp_path: Path) -> None:
    """A server never closes it, and a command may be killed."""
    path = tmp_path / "c"
    cache = open_cache(path, max_bytes=100_000)
    for number in range(300):
        key = cache.content_key(number.to_bytes(2, "big"))
        cache.remember([(key, known(number % 256, blocks=100))])
        assert cache.recall([key]) == [known(number % 256, blocks=100)]
    with sqlite3.connect(path) as connection:
        (size,) = connection.execute("SELECT SUM(LENGTH(value)) FROM contents").fetchone()
    connection.close()
    assert 50_000 < size < 120_000
    cache.close()


def test_a_place_that_cannot_be_had_switches_it_off(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "c", tmp_path):
        cache = open_cache(path)
        cache.remember([(bytes(32), known(1))])
        assert cache.recall([bytes(32)]) == [None]
        cache.close()


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "c").symlink_to(target)
    open_cache(tmp_path / "c").close()
    assert not target.exists()


@pytest.mark.parametrize("whose", ["anybody's", "a group's", "another's"])
def test_a_directory_that_others_may_change_is_left_alone(tmp_path: Path, whose: str) -> None:
    """As when root has the HOME of a user."""
    place = tmp_path / "cache"
    place.mkdir()
    if whose == "anybody's":
        place.chmod(0o777)
    elif whose == "a group's":
        place.chmod(0o770)
    elif os.geteuid() == 0:
        os.chown(place, 65534, -1)
    else:
        pytest.skip("only root may give a directory away")
    cache = EncodeCache(place / "encode.sqlite", secret=bytes(32), variant="auto")
    cache.remember([(bytes(32), (bytes(66), bytes(32)))])
    assert cache.recall([bytes(32)]) == [None]
    cache.close()
    assert os.listdir(place) == []


def test_closed_it_knows_nothing_and_does_not_mind(tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "c")
    cache.remember([(bytes(32), known(1))])
    cache.close()
    cache.close()
    cache.remember([(bytes(32), known(1))])
    assert cache.recall([bytes(32)]) == [None]


def test_the_default_place_is_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache_path() == Path("/somewhere/kapla/encode.sqlite")


def test_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    become_nobody(monkeypatch)
    assert default_cache_path() is None
