"""`kaplad --check` and `--salvage` on real stores, with the daemon beside them or not."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cbor2
import pytest

from eris import Reference
from kapla.cli.backup import _backup
from kapla.coap.frame import Code, OptionNumber
from kapla.storage.sqlite.care.backup import BackupEnded, back_up
from kapla.storage.sqlite.care.check import check
from tests.integration.daemon import GUARD_S, Daemon, program, running_daemon, wait_until
from tests.integration.test_damaged_store import count_found, put_all, stat
from tests.kapla.storage.care.damaged import add_pin, pins_in
from tests.kapla.storage.databases import make_blocks


def kaplad(daemon: Daemon, *args: str) -> subprocess.CompletedProcess[str]:
    command = [program("kaplad"), "--store", str(daemon.store), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=False)


def kapla(daemon: Daemon, *args: str) -> subprocess.CompletedProcess[str]:
    command = [program("kapla"), *args, "--store-url", daemon.url]
    return subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=False)


def spoil(daemon: Daemon, name: Reference) -> None:
    """As a disk does: beside the daemon."""
    with closing(sqlite3.connect(daemon.store)) as connection, connection:
        connection.execute("UPDATE blocks SET block = zeroblob(1024) WHERE reference = ?", (name,))


def path_of(name: str) -> list[tuple[int, bytes]]:
    path = (".well-known", "eris", name)
    return [(OptionNumber.URI_PATH, part.encode()) for part in path]


def scrub_status(daemon: Daemon) -> dict[str, Any]:
    with daemon.connect() as peer:
        answer = peer.request(Code.GET, options=path_of("scrub"))
        assert answer.code == Code.CONTENT
        found: dict[str, Any] = cbor2.loads(answer.payload)
        return found


def test_a_store_is_checked_salvaged_and_served_again(tmp_path: Path) -> None:
    blocks = make_blocks(500)
    with running_daemon(tmp_path) as daemon:
        asyncio.run(put_all(daemon, blocks))
        in_use = kaplad(daemon, "--check")
        assert in_use.returncode == 1
        assert "stop it first" in in_use.stderr
        # What was acknowledged is in the WAL now.
        daemon.kill()
        sound = kaplad(daemon, "--check")
        assert (sound.returncode, sound.stdout) == (0, "500 blocks: the store is sound\n")
        daemon.start()
        assert daemon.stop() == 0
        with daemon.store.open("r+b") as file:
            file.write(bytes(16384))
        assert kaplad(daemon, "--check").returncode == 1
        new = tmp_path / "new.sqlite"
        saved = kaplad(daemon, "--salvage", str(new))
        assert saved.returncode == 0, saved.stderr
        assert "500 blocks and 1 pin saved, 0 lost; 1 page unreadable" in saved.stdout
        daemon.store = new
        assert kaplad(daemon, "--check").returncode == 0
        daemon.start()
        assert asyncio.run(count_found(daemon, blocks)) == 500


def test_only_one_thing_is_done_at_a_time(tmp_path: Path) -> None:
    both = kaplad(Daemon(tmp_path), "--check", "--salvage", "new")
    assert both.returncode == 2


def test_a_scrub_finds_bad_blocks_and_they_come_again(tmp_path: Path) -> None:
    blocks = make_blocks(500)
    [bad, *_] = blocks
    with running_daemon(tmp_path, env={"KAPLA_SCRUB_RATE": "0"}) as daemon:
        asyncio.run(put_all(daemon, blocks))
        sound = kapla(daemon, "scrub")
        assert (sound.returncode, sound.stdout) == (0, "500 blocks, 0 bad\n"), sound.stderr
        spoil(daemon, bad)
        found = kapla(daemon, "scrub", "--json")
        assert found.returncode == 5
        assert json.loads(found.stdout) == {"blocks": 500, "bytes": 499 * 1024, "bad": 1}
        assert asyncio.run(count_found(daemon, blocks)) == 499
        assert "bad blocks:                    1" in kapla(daemon, "stat").stdout
        asyncio.run(put_all(daemon, {bad: blocks[bad]}))
        assert kapla(daemon, "scrub").returncode == 0
        assert asyncio.run(count_found(daemon, blocks)) == 500
        assert daemon.log.count("are bad") == 1


def test_the_background_finds_bad_blocks(tmp_path: Path) -> None:
    with running_daemon(tmp_path, env={"KAPLA_SCRUB_RATE": "1 GiB"}) as daemon:
        asyncio.run(put_all(daemon, make_blocks(50)))
        # It may be through already, and rest; then it goes on where it was.
        assert daemon.stop() == 0
        spoil(daemon, next(iter(make_blocks(1))))
        with closing(sqlite3.connect(daemon.store)) as connection, connection:
            connection.execute("DELETE FROM upkeep")
        daemon.start()
        daemon.wait_for_log("are bad")


def test_an_interrupted_scrub_ends_in_the_daemon_too(tmp_path: Path) -> None:
    with running_daemon(tmp_path) as daemon:
        asyncio.run(put_all(daemon, make_blocks(500)))
        slow = subprocess.Popen(
            [program("kapla"), "scrub", "--rate", "1", "--store-url", daemon.url]
        )
        wait_until(lambda: scrub_status(daemon)["running"], "the scrub")
        slow.send_signal(signal.SIGINT)
        assert slow.wait(GUARD_S) == 130
        wait_until(lambda: not scrub_status(daemon)["running"], "its end")


def test_only_who_administers_the_store_may_scrub_it(tmp_path: Path) -> None:
    listeners = [f"coap+tcp://127.0.0.1:0?get&put{flag}" for flag in ("", "&admin")]
    for number, listener in enumerate(listeners):
        with running_daemon(tmp_path, listen=[listener]) as daemon:
            for path in ("scrub", "database"):
                with daemon.connect_tcp() as peer:
                    answer = peer.request(Code.GET, options=path_of(path))
                    assert answer.code == (Code.CONTENT if number else Code.FORBIDDEN)


def test_a_backup_is_a_store_with_blocks_and_pins(tmp_path: Path) -> None:
    blocks = make_blocks(500)
    copy = tmp_path / "copy.sqlite"
    with running_daemon(tmp_path) as daemon:
        asyncio.run(put_all(daemon, blocks))
        add_pin(daemon.store, b"notes", list(blocks)[:100])
        made = kapla(daemon, "backup", str(copy))
        assert made.returncode == 0, made.stderr
        assert copy.stat().st_mode & 0o777 == 0o600
        # What comes later is not in it.
        asyncio.run(put_all(daemon, make_blocks(50, seed=1)))
        again = kapla(daemon, "backup", str(copy))
        assert again.returncode == 7
        assert "exists already" in again.stderr
        assert daemon.stop() == 0
        daemon.store.unlink()
        copy.rename(daemon.store)
        assert kaplad(daemon, "--check").returncode == 0
        daemon.start()
        assert asyncio.run(count_found(daemon, blocks)) == 500
        assert asyncio.run(stat(daemon))["blocks"] == {"1024": 500, "32768": 0}
    assert pins_in(daemon.store) == {b"notes": set(list(blocks)[:100])}


def test_a_backup_is_one_moment_of_a_store_that_changes(tmp_path: Path) -> None:
    """Writers go on while it is made; it neither begins anew nor has half of anything."""
    with running_daemon(tmp_path) as daemon:
        asyncio.run(put_all(daemon, make_blocks(2000)))
        seen: list[int] = []

        def tell(done: int, of: int) -> bool:
            if len(seen) < 8:
                asyncio.run(put_all(daemon, make_blocks(100, seed=10 + len(seen))))
            seen.append(done)
            return True

        back_up(daemon.store, tmp_path / "copy.sqlite", tell)
        assert seen == sorted(seen)
        assert len(seen) > 1
    report = check(tmp_path / "copy.sqlite")
    assert (report.findings, report.blocks) == ([], {1024: 2000, 32768: 0})


def test_a_backup_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    with running_daemon(tmp_path) as daemon:
        asyncio.run(put_all(daemon, make_blocks(2000)))
        (tmp_path / "copies").mkdir()
        with pytest.raises(BackupEnded):
            back_up(daemon.store, tmp_path / "copies" / "copy", lambda done, of: False)
        assert list((tmp_path / "copies").iterdir()) == []


def test_a_backup_that_is_interrupted_says_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, copy = threading.Event(), tmp_path / "copy"

    def held_up(database: Path, name: Path, tell: Callable[[int, int], bool]) -> int:
        def told(done: int, of: int) -> bool:
            begun.set()
            while tell(done, of):
                time.sleep(0.001)
            return False

        return back_up(database, name, told)

    monkeypatch.setattr("kapla.storage.sqlite.care.backup.back_up", held_up)

    async def main(url: str) -> None:
        backup = asyncio.ensure_future(_backup(copy, url))
        await asyncio.to_thread(begun.wait, GUARD_S)
        backup.cancel()
        with pytest.raises(asyncio.CancelledError):
            await backup
        gc.collect()

    with running_daemon(tmp_path) as daemon:
        asyncio.run(main(daemon.url))
    gc.collect()
    assert not copy.exists()
    assert not caplog.records
