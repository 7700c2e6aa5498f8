"""Tells whoever started `kapla substitute`, and would do its work, that it does it itself.

`kapla-guix` and the extension of Guix pass the end of a pipe. While nothing has come out of it they
can still begin anew with another program: no command has been read. `$KAPLA_STARTER` is its
descriptor, and with `:PID` also the process that waits for us. What the Guix daemon kills is that
one, so that we must not outlive it: two processes would write to one item.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

__all__ = ["tell_starter"]

_VARIABLE: Final = "KAPLA_STARTER"
_PR_SET_PDEATHSIG: Final = 1


def tell_starter(environ: Mapping[str, str]) -> None:
    """Say that all that could go wrong at the start went well, if anybody waits to be told."""
    given = re.fullmatch(r"([0-9]{1,9})(?::([0-9]{1,9}))?", environ.get(_VARIABLE, ""))
    if given is None:
        return
    if given[2] is not None:
        _die_with(int(given[2]))
    # A descriptor that is not open, or is another's end: nobody waits.
    with suppress(OSError):
        os.write(int(given[1]), b"begun\n")
        os.close(int(given[1]))


def _die_with(parent: int) -> None:
    # Loaded only here: it takes a while.
    from ctypes import CDLL

    CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
