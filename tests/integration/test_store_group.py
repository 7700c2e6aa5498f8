"""Commands over a group of daemons, each of which is killed and started again meanwhile.

They have the same content, as the front ends of one database have: here each in a file of its own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, Daemon, running_daemon

MIB = 1024 * 1024
CONTENT = random.Random(18).randbytes(12 * MIB)
PARTS = [CONTENT[start : start + 4 * MIB] for start in range(0, len(CONTENT), 4 * MIB)]

STOPS = {"SIGTERM": Daemon.stop, "SIGKILL": Daemon.kill}


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with running_daemon(tmp_path / "one") as one, running_daemon(tmp_path / "two") as two:
        yield one, two


@pytest.fixture
def kapla(daemons: tuple[Daemon, Daemon], tmp_path: Path) -> Kapla:
    home = tmp_path / "home"
    home.mkdir()
    return Kapla(home, "|".join(daemon.url for daemon in daemons))


def alone(kapla: Kapla, daemon: Daemon) -> Kapla:
    """The same person, with one of the daemons."""
    return Kapla(kapla.home, daemon.url)


def begin(kapla: Kapla, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        kapla.command(*arguments),
        env=kapla.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def content_in_both(kapla: Kapla, daemons: tuple[Daemon, Daemon]) -> str:
    """Put the content into each by itself; returns its URN."""
    urns = {
        alone(kapla, daemon).out("encode", "--no-catalogue", "--no-cache", "-", stdin=CONTENT)
        for daemon in daemons
    }
    (urn,) = urns
    return urn.strip()


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_an_encode_goes_on_through_a_rolling_restart(
    kapla: Kapla, daemons: tuple[Daemon, Daemon], stop: Callable[[Daemon], int]
) -> None:
    urn = content_in_both(kapla, daemons)
    for daemon in daemons:
        alone(kapla, daemon)("unpin", urn)
    with begin(kapla, "encode", "--no-cache", "-") as encoding:
        assert encoding.stdin is not None
        for part, restarted in zip(PARTS, (*daemons, None), strict=True):
            # All but what is in the pipe is read when it is written.
            encoding.stdin.write(part)
            encoding.stdin.flush()
            if restarted is not None:
                stop(restarted)
                restarted.start()
        out, err = encoding.communicate(timeout=GUARD_S)
    assert (encoding.returncode, err) == (0, b"")
    assert out.decode().strip() == urn
    kapla("verify", urn)
    pins = [
        json.loads(line)
        for daemon in daemons
        for line in alone(kapla, daemon).out("pins", "--json").splitlines()
    ]
    # It is pinned whole, where the last connection was.
    (pin,) = [one for one in pins if one["name"] != "before-pins"]
    assert (pin["missing"], pin["bytes"] >= len(CONTENT)) == (0, True)


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_decode_goes_on_through_a_rolling_restart(
    kapla: Kapla, daemons: tuple[Daemon, Daemon], stop: Callable[[Daemon], int]
) -> None:
    urn = content_in_both(kapla, daemons)
    found = b""

    def restart(daemon: Daemon) -> None:
        stop(daemon)
        daemon.start()

    with begin(kapla, "decode", urn, "-") as decoding, ThreadPoolExecutor(1) as others:
        assert decoding.stdout is not None
        pipe = decoding.stdout.fileno()
        for number, daemon in enumerate(daemons, 1):
            while len(found) < number * 4 * MIB:
                found += os.read(pipe, MIB)
            restarting = others.submit(restart, daemon)
            # Slowly: so it is in the middle of it, and still is no reader who waits for the end.
            while not wait([restarting], 0.02).done:
                found += os.read(pipe, 65536)
            restarting.result()
        rest, err = decoding.communicate(timeout=GUARD_S)
    assert (decoding.returncode, err) == (0, b"")
    assert found + rest == CONTENT


def test_one_of_them_is_enough(kapla: Kapla, daemons: tuple[Daemon, Daemon]) -> None:
    daemons[0].kill()
    for _ in range(4):
        # Whichever it begins with.
        urn = kapla.out("encode", "--no-catalogue", "-", stdin=os.urandom(50_000)).strip()
        kapla("decode", urn, "-")
        kapla("unpin", urn)
    assert json.loads(kapla.out("stat", "--json"))["blocks"]
