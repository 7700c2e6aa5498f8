"""What is kept of narinfos from one process to the next: real files, a clock that is handed in."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.fetch.http_wire import MAX_BODY
from guix_glue.fetch.narinfo_cache import Answer, NarinfoCache, narinfo_cache_directory
from guix_glue.servers.url import Server, parse_server

SERVER = parse_server("https://example.org/secret-path")
ITEM = "0" * 32
YEAR = 365 * 86400.0


class Time:
    """Seconds since the epoch."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache/narinfos"


@pytest.fixture
def cache(directory: Path, time: Time) -> NarinfoCache:
    return NarinfoCache(str(directory), now=time)


def put(cache: NarinfoCache, item: str, text: bytes | None, left_s: float = 100.0) -> None:
    cache.write(SERVER, {item: Answer(text, left_s)})


def get(cache: NarinfoCache, item: str = ITEM, server: Server = SERVER) -> bytes | str | None:
    """The text, None if the server does not have it, or that nothing is known."""
    found = cache.read(server, [item])
    return found[item].text if found else "unknown"


def files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if not path.is_dir())


# --- what it is for -----------------------------------------------------------------------------


def test_what_is_kept_is_good_for_so_long(cache: NarinfoCache, time: Time) -> None:
    put(cache, ITEM, b"text")
    put(cache, "1" * 32, None, 20.0)
    assert cache.read(SERVER, [ITEM, "1" * 32, "2" * 32]) == {
        ITEM: Answer(b"text", 100.0),
        "1" * 32: Answer(None, 20.0),
    }
    time.now += 50
    assert cache.read(SERVER, [ITEM, "1" * 32]) == {ITEM: Answer(b"text", 50.0)}
    time.now += 50
    assert get(cache) == "unknown"


def test_nothing_lasts_for_ever(cache: NarinfoCache, time: Time) -> None:
    put(cache, ITEM, b"text", 1e12)
    assert cache.read(SERVER, [ITEM])[ITEM].left_s == YEAR
    # A clock that was ahead and was set right.
    time.now -= 2 * YEAR
    assert get(cache) == "unknown"
    for left_s in (0.0, -5.0):
        put(cache, "1" * 32, b"text", left_s)
        assert get(cache, "1" * 32) == "unknown"


@pytest.mark.parametrize("text", [None, b"", b"x" * MAX_BODY])
def test_the_last_word_counts(text: bytes | None, cache: NarinfoCache) -> None:
    for one in (b"before", text):
        put(cache, ITEM, one)
        assert get(cache) == one
    cache.forget(SERVER, ITEM)
    cache.forget(SERVER, ITEM)
    assert get(cache) == "unknown"


@pytest.mark.parametrize(
    "other",
    [
        "https://example.org/secret-path2",
        "http://example.org/secret-path",
        "https://me:secret@example.org/secret-path",
        "https://me:secret2@example.org/secret-path",
    ],
)
def test_each_server_and_user_is_alone(other: str, cache: NarinfoCache, directory: Path) -> None:
    with_password = parse_server("https://me:secret@example.org/secret-path")
    put(cache, ITEM, b"text")
    if other.endswith("secret@example.org/secret-path"):
        assert get(cache, server=with_password) == "unknown"
    else:
        cache.write(with_password, {ITEM: Answer(None, 100.0)})
        assert get(cache, server=parse_server(other)) == "unknown"
        assert get(cache) == b"text"
    for path in files(directory):
        assert b"secret" not in bytes(path) + path.read_bytes()


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", ["nothing", "cut", "longer", "changed", "until", "directory", "fifo", "link", "zero"]
)
def test_damage_is_that_of_one_answer(damage: str, cache: NarinfoCache, directory: Path) -> None:
    put(cache, ITEM, b"StorePath: one\n")
    put(cache, ITEM[:-1] + "1", b"another")
    path = next(path for path in files(directory) if path.name.startswith(ITEM))
    content = path.read_bytes()
    match damage:
        case "nothing":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[:-1])
        case "longer":
            path.write_bytes(content + b"URL: x\n")
        case "changed":
            path.write_bytes(content.replace(b"one", b"two"))
        case "until":
            path.write_bytes(content.replace(b" 17", b" 18", 1))
        case "zero":
            path.write_bytes(bytes(len(content)))
        case _:
            path.unlink()
            if damage == "directory":
                path.mkdir()
            elif damage == "fifo":
                os.mkfifo(path)
            else:
                path.with_name("elsewhere").write_bytes(content)
                path.symlink_to("elsewhere")
    assert get(cache) == "unknown"
    assert get(cache, ITEM[:-1] + "1") == b"another"
    put(cache, ITEM, b"again")
    assert get(cache) == ("unknown" if damage == "directory" else b"again")


@given(st.binary(max_size=200))
def test_no_file_is_taken_for_an_answer(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        cache = NarinfoCache(f"{name}/narinfos", now=Time())
        put(cache, ITEM, b"text")
        next(files(Path(name))).write_bytes(content)
        assert get(cache) == "unknown"


@pytest.mark.parametrize("kind", ["file", "others may write", "another's", "dangling", "no room"])
def test_a_place_that_cannot_be_used_is_none(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    cache = NarinfoCache(f"{place}/narinfos" if kind == "file" else str(place), now=Time())
    match kind:
        case "file":
            place.write_text("")
        case "others may write":
            put(cache, ITEM, b"text")
            place.chmod(0o770)
        case "another's":
            if os.geteuid() != 0:
                pytest.skip("only root can give a directory away")
            put(cache, ITEM, b"text")
            os.chown(place, 12345, 12345)
        case "dangling":
            place.symlink_to("nowhere/at/all")
        case _:
            # A bucket cannot be made.
            place.mkdir(0o700)
            (place / ITEM[:2]).write_text("")
    put(cache, ITEM, b"text")
    assert get(cache) == "unknown"
    cache.forget(SERVER, ITEM)


def test_it_is_for_us_alone(cache: NarinfoCache, directory: Path) -> None:
    before = os.umask(0)
    try:
        put(cache, ITEM, b"text")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}
    assert set(modes.values()) == {0o700, 0o600}
    assert modes[directory] == 0o700


# --- bounds -------------------------------------------------------------------------------------


def items(count: int) -> list[str]:
    """Hash parts that are all kept in one place."""
    return [f"00{number:030d}" for number in range(count)]


def test_there_are_only_so_many(cache: NarinfoCache, directory: Path, time: Time) -> None:
    names = items(300)
    for name in names:
        time.now += 1
        put(cache, name, b"text", 1000.0)
    known = cache.read(SERVER, names)
    assert 1 < len(known) <= 64
    # Those that came last.
    assert list(known) == names[-len(known) :]
    assert len(list(files(directory))) == len(known)


def test_there_is_only_so_much(cache: NarinfoCache, directory: Path) -> None:
    for name in items(40):
        put(cache, name, b"x" * 60_000)
        assert sum(path.stat().st_size for path in files(directory)) <= 512 * 1024
    assert len(list(files(directory))) == 8


def test_what_is_out_of_date_makes_room_first(
    cache: NarinfoCache, directory: Path, time: Time
) -> None:
    names = items(64)
    for name in names[:32]:
        put(cache, name, None, 10.0)
    for name in names[32:]:
        put(cache, name, b"text", 1000.0)
    time.now += 20
    put(cache, "00" + "x" * 30, b"text", 1000.0)
    assert len(list(files(directory))) == 33
    assert list(cache.read(SERVER, names)) == names[32:]


def test_what_was_left_behind_by_a_kill_goes(
    cache: NarinfoCache, directory: Path, time: Time
) -> None:
    put(cache, ITEM, b"text", 10 * 3600.0)
    left = directory / ITEM[:2] / ".new-0123456789abcdef"
    left.write_bytes(b"half")
    os.utime(left, (time.now, time.now))
    time.now += 60
    put(cache, ITEM, b"text", 10 * 3600.0)
    # Somebody may be about to finish it.
    assert left.exists()
    time.now += 3600
    put(cache, ITEM, b"text", 10 * 3600.0)
    assert not left.exists()
    assert get(cache) == b"text"


def test_many_processes_write_at_once(directory: Path) -> None:
    """Whoever reads meanwhile reads an answer, and a whole one."""
    time = Time()
    texts = {bytes([letter]) * size for letter, size in ((65, 10), (66, 100_000), (67, 3000))}
    seen = set[bytes | str | None]()

    def write(text: bytes) -> None:
        mine = NarinfoCache(str(directory), now=time)
        for _ in range(30):
            put(mine, ITEM, text)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    reading = NarinfoCache(str(directory), now=time)
    while any(writer.is_alive() for writer in writers):
        seen.add(get(reading))
    assert seen - {"unknown"} <= texts
    assert get(reading) in texts
    assert len(list(files(directory))) == 1


# --- where it is --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "environ", "place"),
    [
        ("/a", {"KAPLA_NARINFO_CACHE": "/b"}, "/a"),
        (None, {"KAPLA_NARINFO_CACHE": "/b/"}, "/b"),
        ("none", {"KAPLA_NARINFO_CACHE": "/b"}, None),
        (None, {"KAPLA_NARINFO_CACHE": "none"}, None),
        ("/a", {"KAPLA_NARINFO_CACHE": "none"}, "/a"),
    ],
)
def test_the_place_may_be_said(
    given: str | None, environ: dict[str, str], place: str | None
) -> None:
    assert narinfo_cache_directory(given, environ) == place


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/kapla/narinfos"),
        ({"XDG_CACHE_HOME": "x"}, None),
        ({"KAPLA_NARINFO_CACHE": "", "HOME": "/"}, None),
        ({}, None),
    ],
)
def test_else_it_is_the_users(
    environ: dict[str, str], place: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert narinfo_cache_directory(None, environ) == place
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert narinfo_cache_directory(None, environ) == "/var/cache/kapla/narinfos"
    named = {**environ, "XDG_CACHE_HOME": "/x"}
    assert narinfo_cache_directory(None, named) == "/x/kapla/narinfos"


@pytest.mark.parametrize("wrong", ["relative", "./x", "/a\0b"])
def test_a_place_that_depends_on_where_we_are_is_none(wrong: str) -> None:
    with pytest.raises(ValueError, match="no absolute path"):
        narinfo_cache_directory(wrong, {})
