"""Processes that make a network, keep it, and take it away: how they are started, and speak.

The keeper's first line is `ready` and whatever it has to tell, or `failed` and the reason. It ends
when its standard input does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks.network.namespaces import NetworkUnavailable

__all__ = ["keeping", "running_keeper", "say"]

_ROOT: Final = Path(__file__).parents[2]
_PATIENCE_S: Final = 20


@contextmanager
def running_keeper(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a module that is a keeper; gives the process, and what it tells when it is ready.

    Raises: NetworkUnavailable.
    """
    keeper = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        # Ctrl-C is for the program that measures; the keeper ends after it.
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        word, _, rest = keeper.stdout.readline().strip().partition(" ")
        if word != "ready":
            raise NetworkUnavailable(rest or "the network did not start")
        yield keeper, rest
    finally:
        keeper.stdin.close()
        keeper.wait(_PATIENCE_S)
        keeper.stdout.close()


@contextmanager
def keeping() -> Iterator[None]:
    """Be a keeper: clear up when told to end, be quick, and say what does not work."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    with suppress(OSError):
        os.nice(-10)
    try:
        yield
    except subprocess.CalledProcessError as error:
        say(f"failed {' '.join(error.cmd)}: {error.stderr.strip()}")
    except OSError as error:
        say(f"failed {error}")


def say(line: str) -> None:
    """Tell whoever started this process; they may be gone."""
    with suppress(BrokenPipeError):
        print(line, flush=True)
