"""What the log of requests tells of each.

The text is that of the Combined Log Format, which tools for the logs of web servers read, and two
words more: the seconds that it took, and whether all was sent. Queries are left out, as they may be
somebody's secret; paths that are long are cut.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from guix_glue.serving.journal import escaped

__all__ = ["Exchange"]

_NOT_ANSWERED: Final = 499
"""The client left before there was an answer: no status of HTTP, but nginx's, which tools know."""
_LONGEST_PATH: Final = 1024
_LONGEST_AGENT: Final = 256


@dataclass(slots=True)
class Exchange:
    """A request and what became of it. `at` is a time of the epoch, when it was read."""

    client: str
    method: str = "-"
    path: str = "-"
    version: str = "HTTP/1.1"
    agent: str = ""
    status: int = _NOT_ANSWERED
    sent: int = 0
    """Bytes of the body."""
    whole: bool = False
    at: float = field(default_factory=time.time)
    _began: float = field(default_factory=time.monotonic)
    _seconds: float = 0.0

    def end(self) -> None:
        """It is over."""
        self._seconds = time.monotonic() - self._began

    def facts(self) -> Mapping[str, object]:
        """See `journal.Entry`."""
        return {
            "event": "request",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.at)),
            "client": self.client,
            "method": self.method[:_LONGEST_AGENT],
            "path": self.path[:_LONGEST_PATH],
            "version": self.version,
            "status": self.status,
            "bytes": self.sent,
            "seconds": round(self._seconds, 6),
            "whole": self.whole,
            "agent": self.agent[:_LONGEST_AGENT],
        }

    def text(self) -> str:
        """See `journal.Entry`."""
        when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(self.at))
        method = escaped(self.method, _LONGEST_AGENT)
        asked = f"{method} {escaped(self.path, _LONGEST_PATH)} {self.version}"
        agent = escaped(self.agent, _LONGEST_AGENT) or "-"
        whole = "whole" if self.whole else "cut"
        return (
            f'{self.client} - - [{when}] "{asked}" {self.status} {self.sent} "-" "{agent}"'
            f" {self._seconds:.6f} {whole}"
        )
