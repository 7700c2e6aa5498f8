"""Saying once what goes wrong again and again: peers go on trying, and the log is no counter."""

from __future__ import annotations

import logging
from typing import Final

__all__ = ["Complaints"]

# Different ones remembered; a store fails in a few ways.
_MAX_KINDS: Final = 64


class Complaints:
    """What was complained of since it was last well, for one thread."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._times: dict[str, int] = {}

    def tell(
        self, message: str, *, level: int = logging.ERROR, error: BaseException | None = None
    ) -> None:
        """Log it, with the traceback of `error`, unless it was said already."""
        known = self._times.get(message)
        if known is None and len(self._times) >= _MAX_KINDS:
            return
        self._times[message] = (known or 0) + 1
        if known is None:
            self._log.log(level, "%s", message, exc_info=error)

    def well(self) -> None:
        """It works again: what was said often is summed up, and said anew the next time."""
        if not self._times:
            return
        for message, times in self._times.items():
            if times > 1:
                self._log.warning("%s: %d times in all", message, times)
        self._times.clear()
