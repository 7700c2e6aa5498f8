"""The loop in its thread: interruptions, forks, and the end of the program."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eris.errors import StoreRefused
from kapla.doors.running import background
from kapla.doors.sync import Store, open_store
from tests.integration.daemon import GUARD_S, Daemon
from tests.kapla.doors.conftest import LARGE

REPOSITORY = Path(__file__).resolve().parent.parent.parent.parent


def test_what_is_raised_comes_out() -> None:
    async def fail() -> None:
        raise LookupError("here")

    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(LookupError, match="here"):
        background().call(fail)
    # What would end an event loop does not end this one.
    with pytest.raises(SystemExit):
        background().call(leave)
    assert background().call(lambda: asyncio.sleep(0, "there")) == "there"


main_thread = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(),
    reason="Ctrl-C is for the main thread",
)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C does what it does in most programs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@main_thread
def test_ctrl_c_gives_the_work_up(interruptible: None) -> None:
    ended = threading.Event()

    async def wait() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        background().call(wait)
    assert ended.is_set()


class Interrupted(io.RawIOBase):
    """Gives something, and then is interrupted, as who reads from a terminal."""

    given = False

    def read(self, size: int = -1, /) -> bytes:
        if not self.given:
            self.given = True
            return LARGE
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("nothing happened")


@main_thread
def test_ctrl_c_where_the_source_is_read(store: Store, interruptible: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.put_content(Interrupted())  # type: ignore[arg-type]
    assert store.get_content(store.put_content(b"and on")) == b"and on"


def test_a_source_that_never_ends_is_let_go_of_when_the_work_fails(daemon: Daemon) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            return bytes(size)

    with open_store(f"{daemon.url}?get") as refusing, pytest.raises(StoreRefused):
        refusing.put_content(Endless())  # type: ignore[arg-type]


def test_what_would_wait_for_itself_is_refused(store: Store) -> None:
    async def call() -> None:
        store.connect()

    with pytest.raises(RuntimeError, match="call it from another thread"):
        background().call(call)


def test_inside_of_somebodys_loop_it_works(store: Store) -> None:
    async def main() -> bytes:
        return store.get_content(store.put_content(b"blocking, but right"))

    assert asyncio.run(main()) == b"blocking, but right"


def _run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=2 * GUARD_S,
        check=False,
    )
    assert done.returncode == 0, done
    assert not done.stderr, done
    return done.stdout


FORK = """
import os, sys
from kapla.doors.sync import open_store
with open_store(sys.argv[1]) as store:
    file = store.open(sys.argv[2])
    read = [len(file.read(100))]
    child = os.fork()
    if not child:
        read += [len(file.read(100)), len(store.get_content(sys.argv[2])), file.tell()]
        print(*read, flush=True)
        store.close()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(len(file.read()), len(store.get_content(sys.argv[2])))
"""


def test_a_process_and_its_fork_read_on(store: Store, daemon: Daemon) -> None:
    urn = store.put_content(LARGE).to_urn()
    child, parent = _run(FORK, daemon.url, urn).splitlines()
    assert child == f"100 100 {len(LARGE)} 200"
    assert parent == f"{len(LARGE) - 100} {len(LARGE)}"


END = """
import sys, threading
from kapla.doors.sync import open_store
from kapla.doors.running import background
store = open_store(sys.argv[1])
begun = threading.Event()

async def wait():
    import asyncio
    begun.set()
    await asyncio.get_running_loop().create_future()

def work():
    try:
        background().call(wait)
    except Exception as error:
        print(error, flush=True)

thread = threading.Thread(target=work, daemon=True)
thread.start()
begun.wait()
print("end", flush=True)
"""


def test_the_program_ends_with_a_store_open_and_work_under_way(daemon: Daemon) -> None:
    assert _run(END, daemon.url).splitlines()[0] == "end"


def test_the_synchronous_door_needs_no_fsspec() -> None:
    script = "import sys, kapla.doors.sync; print({'fsspec', 'aiohttp'} & sys.modules.keys())"
    assert _run(script) == "set()\n"
