"""Whoever reads a command's output may take his time: that is no silence of a daemon."""

from __future__ import annotations

import subprocess
import sys
import threading

from tests.integration.daemon import GUARD_S, running_daemon, wait_until
from tests.integration.test_interruption import bytes_in

# Connections are at each step that there is, and then nothing is looked at for longer than one may
# take.
STUCK = """
import asyncio, sys
from kapla.cli.common import run, standard_output
from kapla.cli.streams import hold_streams
from kapla.remote_store import RemoteStore
from kapla.urls import parse_store_url

async def main():
    stores, connecting = [], []
    for _ in range(10):
        stores.append(RemoteStore(parse_store_url(sys.argv[1]), connect_timeout_s=2.0))
        connecting.append(asyncio.ensure_future(stores[-1].connect()))
        await asyncio.sleep(0)
    standard_output().write(bytes(1 << 20))
    await asyncio.gather(*connecting)
    for store in stores:
        await store.close()

hold_streams()
run(main())
"""
PAUSE_S = 2.5


def test_a_reader_that_pauses_is_no_daemon_that_does_not_answer() -> None:
    with (
        running_daemon() as daemon,
        subprocess.Popen(
            [sys.executable, "-c", STUCK, daemon.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        wait_until(lambda: bytes_in(pipe) > 0, "something to read")
        threading.Event().wait(PAUSE_S)
        out, err = process.communicate(timeout=GUARD_S)
    assert (process.returncode, len(out), err) == (0, 1 << 20, b"")
