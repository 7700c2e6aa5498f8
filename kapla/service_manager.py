"""What a service manager is told: systemd, by `$NOTIFY_SOCKET`; nothing where there is none.

Source: sd_notify(3).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import sdnotify

__all__ = ["ServiceManager"]


class ServiceManager:
    """Tells how it goes with this service."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()

    def ready(self) -> None:
        """All that there is to serve is served."""
        self._notifier.notify("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._notifier.notify("STOPPING=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Something is read anew in here; after that the service is ready again, but at its end."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        # In one message: systemd waits for a READY that is later than this.
        self._notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={now}")
        try:
            yield
        except Exception:
            self.ready()
            raise
        # Who is cancelled is about to stop, and is not ready.
        self.ready()
