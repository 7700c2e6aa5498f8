"""`kaplad --check` and `--salvage` on real stores, with the daemon beside them or not."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from tests.integration.daemon import GUARD_S, Daemon, program, running_daemon
from tests.integration.test_damaged_store import count_found, put_all
from tests.kapla.storage.databases import make_blocks


def kaplad(daemon: Daemon, *args: str) -> subprocess.CompletedProcess[str]:
    command = [program("kaplad"), "--store", str(daemon.store), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=False)


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
