"""A client that is faster than the daemon, as after `kaplad & kapla encode …`."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon import GUARD_S, Daemon, program


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """One that is not started yet."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        daemon = Daemon(Path(name), installed=True)
        try:
            yield daemon
        finally:
            daemon.kill()


def stat(daemon: Daemon) -> subprocess.Popen[str]:
    environment = {**os.environ, "ERIS_STORE_URL": daemon.url}
    return subprocess.Popen(
        [program("kapla"), "stat", "--timeout", "60"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_waits_for_the_daemon_that_is_starting(daemon: Daemon) -> None:
    daemon.spawn()
    os.kill(daemon.pid, signal.SIGSTOP)
    client = stat(daemon)
    try:
        assert client.stderr is not None
        # Said after some seconds, so it was there before the daemon; which may now go on.
        assert "waiting for" in client.stderr.readline()
        os.kill(daemon.pid, signal.SIGCONT)
        assert client.wait(2 * GUARD_S) == 0
    finally:
        client.kill()
        client.communicate(timeout=GUARD_S)


def test_it_ends_with_a_daemon_that_does_not_get_so_far(daemon: Daemon) -> None:
    daemon.store.write_text("this is no store")
    daemon.spawn()
    client = stat(daemon)
    assert "kapla: cannot connect to" in client.communicate(timeout=2 * GUARD_S)[1]
    assert client.returncode != 0
    assert daemon.wait() == 1
