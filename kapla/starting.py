"""Where `kaplad` begins: before all that takes time to load, so that a SIGHUP waits for it."""

from __future__ import annotations

import gc

from kapla.hangups import Hangups

__all__ = ["main"]


def main() -> None:
    """Run the daemon; ends the process."""
    hangups = Hangups()
    # What is loaded stays: to look through it again and again for what may go takes a tenth of the
    # time.
    gc.disable()
    from kapla.__main__ import main as run

    gc.enable()
    run(hangups)
