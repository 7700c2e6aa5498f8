"""What SIGHUP changes, and what is said of it; without a daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eris.errors import StoreUnavailable
from kapla import log
from kapla.config import Config, Loaded, Misconfigured, Problem
from kapla.config.table import SETTINGS
from kapla.hangups import Hangups
from kapla.renewal import Renewal, renewed
from kapla.service_manager import ServiceManager
from kapla.stopping import stop_event

GUARD_S = 30.0
NOW = Config(Path("/store"), ())


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handler = signal.getsignal(signal.SIGHUP)
    monkeypatch.setattr(log, "configure", lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, handler)


class FakeDaemon:
    def __init__(self) -> None:
        self.config = NOW
        self.fails = False
        self.settled = asyncio.Event()

    async def settle(self, config: Config) -> None:
        self.settled.set()
        if self.fails:
            raise StoreUnavailable("the disk is full")
        self.config = config


def test_what_can_change_is_taken_and_the_rest_is_left() -> None:
    wanted = replace(NOW, max_size=1 << 30, when_full="refuse", store=Path("/x"), advertise=True)
    found = renewed(NOW, wanted)
    assert found.config == replace(NOW, max_size=1 << 30, when_full="refuse")
    assert [one.key for one in found.taken] == ["max-size", "when-full"]
    assert [one.key for one in found.left] == ["store", "advertise"]
    assert renewed(NOW, NOW).config == NOW


def test_every_setting_is_one_or_the_other() -> None:
    fields = {one.field for one in SETTINGS}
    assert fields == set(Config.__dataclass_fields__) - {"default_listen", "rebuild_index"}


async def hang_up(
    read: Callable[[], Loaded], daemon: FakeDaemon, times: int = 1, patience_s: float = GUARD_S
) -> None:
    """Have a renewal hear of some signals, and end."""
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Manager(ServiceManager):
        def ready(self) -> None:
            loop.call_soon_threadsafe(heard.set)

    hangups = Hangups()
    task = asyncio.create_task(Renewal(hangups, read, patience_s).run(daemon, Manager()))
    try:
        for _ in range(times):
            heard.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(GUARD_S):
                await heard.wait()
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_each_change_is_told(caplog: pytest.LogCaptureFixture) -> None:
    wanted = replace(NOW, max_size=50 * 10**9, log_level="error", store=Path("/x"))
    caplog.set_level(logging.INFO)

    async def main() -> None:
        daemon = FakeDaemon()
        await hang_up(lambda: Loaded(wanted, None, {}), daemon, times=2)
        assert daemon.config == replace(wanted, store=NOW.store)

    asyncio.run(main())
    told = [(record.levelname, record.message) for record in caplog.records]
    assert told == [
        ("INFO", "Settings: max-size is 50000000000 (46.57 GiB) now"),
        ("INFO", "Settings: log-level is error now"),
        ("WARNING", "Settings: store takes effect at a restart"),
        ("WARNING", "Settings: store takes effect at a restart"),
    ]


@pytest.mark.parametrize("broken", ["file", "disk", "store", "program"])
def test_what_fails_changes_nothing_and_the_next_is_heard(
    caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    problems = [Problem("kapla.toml:1", "no"), Problem("kapla.toml:2", "not so")]
    caplog.set_level(logging.ERROR)
    over = threading.Event()

    def read() -> Loaded:
        if broken == "disk":
            over.wait(GUARD_S)
        if broken == "file":
            raise Misconfigured(problems)
        if broken == "program":
            raise ZeroDivisionError
        return Loaded(replace(NOW, max_size=1 << 30), None, {})

    async def main() -> None:
        daemon = FakeDaemon()
        daemon.fails = broken == "store"
        await hang_up(read, daemon, times=2, patience_s=0.01 if broken == "disk" else GUARD_S)
        assert daemon.config == NOW

    asyncio.run(main())
    over.set()
    told = [record.message for record in caplog.records]
    nothing = "Settings are not read anew, and nothing changes: "
    assert (
        told
        == 2
        * {
            "file": [f"{nothing}kapla.toml:1: no", f"{nothing}kapla.toml:2: not so"],
            "disk": [f"{nothing}they cannot be read within 0.01 s"],
            "store": [f"{nothing}the disk is full"],
            "program": ["Settings are not read anew"],
        }[broken]
    )


def test_signals_before_somebody_listens_are_one() -> None:
    hangups = Hangups()
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGHUP)

    async def main() -> None:
        async with asyncio.timeout(GUARD_S):
            await hangups.next()
        waiting = asyncio.create_task(hangups.next())
        # As often as it would take if there was one left.
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(GUARD_S):
            await waiting

    asyncio.run(main())
    # The loop is closed: it is noted, and does nothing.
    os.kill(os.getpid(), signal.SIGHUP)


def test_no_flood_of_them_hides_the_signal_to_stop(capfd: pytest.CaptureFixture[str]) -> None:
    hangups = Hangups()

    async def main() -> None:
        stopping = stop_event()
        waiting = asyncio.create_task(hangups.next())
        await asyncio.sleep(0)
        # In one turn of the loop.
        for _ in range(2000):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(GUARD_S):
            await stopping.wait()
            await waiting

    asyncio.run(main())
    assert capfd.readouterr().err == ""
