"""Where `kaplad` begins: before all that takes time to load, so that a SIGHUP waits for it."""

from __future__ import annotations

from kapla.hangups import Hangups

__all__ = ["main"]


def main() -> None:
    """Run the daemon; ends the process."""
    hangups = Hangups()
    from kapla.__main__ import main as run

    run(hangups)
