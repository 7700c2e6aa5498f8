"""Commands in the middle of which the daemon is stopped or killed, and started again."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.commands import Kapla, blocks_there
from tests.integration.daemon import GUARD_S, Daemon, running_daemon, wait_until

MIB = 1024 * 1024
CONTENT = random.Random(13).randbytes(12 * MIB)
HALF = len(CONTENT) // 2

STOPS = {"SIGTERM": Daemon.stop, "SIGKILL": Daemon.kill}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running_daemon(tmp_path) as running:
        yield running


@pytest.fixture
def kapla(daemon: Daemon, tmp_path: Path) -> Kapla:
    home = tmp_path / "home"
    home.mkdir()
    return Kapla(home, daemon.url)


def begin(kapla: Kapla, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        kapla.command(*arguments),
        env=kapla.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_an_encode_goes_on_and_its_pin_has_all_that_was_sent(
    kapla: Kapla, daemon: Daemon, stop: Callable[[Daemon], int]
) -> None:
    with begin(kapla, "encode", "-") as encoding:
        assert encoding.stdin is not None
        encoding.stdin.write(CONTENT[:HALF])
        encoding.stdin.flush()
        wait_until(lambda: blocks_there(kapla) > 20, "some blocks")
        stop(daemon)
        daemon.start()
        out, err = encoding.communicate(CONTENT[HALF:], GUARD_S)
    assert encoding.returncode == 0, err
    assert err.startswith(b"kapla: lost the connection to Unix socket ") or not err
    urn = out.decode().strip()
    kapla("verify", urn)
    pins = map(json.loads, kapla.out("pins", "--json").splitlines())
    (pin,) = [one for one in pins if one["name"] != "before-pins"]
    assert (pin["blocks"], pin["missing"]) == (blocks_there(kapla), 0)


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_decode_goes_on(kapla: Kapla, daemon: Daemon, stop: Callable[[Daemon], int]) -> None:
    urn = kapla.out("encode", "--no-catalogue", "-", stdin=CONTENT)
    with begin(kapla, "decode", urn, "-") as decoding:
        assert decoding.stdout is not None
        found = os.read(decoding.stdout.fileno(), 1000)
        stop(daemon)
        daemon.start()
        rest, err = decoding.communicate(timeout=GUARD_S)
    assert decoding.returncode == 0, err
    assert found + rest == CONTENT


def test_with_reconnect_0_it_ends_at_once(kapla: Kapla, daemon: Daemon) -> None:
    urn = kapla.out("encode", "--no-catalogue", "-", stdin=CONTENT)
    with begin(kapla, "decode", "--reconnect", "0", urn, "-") as decoding:
        assert decoding.stdout is not None
        os.read(decoding.stdout.fileno(), 1000)
        daemon.kill()
        _, err = decoding.communicate(timeout=GUARD_S)
    assert decoding.returncode == 3
    assert err.count(b"\n") == 1
    assert b"lost" in err or b"cannot connect" in err


def test_a_daemon_that_was_never_there_is_not_waited_for(kapla: Kapla, daemon: Daemon) -> None:
    daemon.kill()
    assert "Start a daemon with: kaplad" in kapla.error("stat", code=3)
