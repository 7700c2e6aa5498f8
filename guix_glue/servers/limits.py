"""What substitute servers are granted, by the fetcher and by a mirror: time, and sizes."""

from __future__ import annotations

from typing import Final

__all__ = ["CONNECT_TIMEOUT_S", "MAX_UNSIGNED_SIZE", "NAR_STALL_S"]

CONNECT_TIMEOUT_S: Final = 5.0
"""Until there is a connection: what the stock client grants."""

NAR_STALL_S: Final = 60.0
"""Until a server is given up that sends nothing of a nar: some compress while we wait."""

MAX_UNSIGNED_SIZE: Final = 16 * 1024**3
"""Bytes of a nar whose size nobody signed; the largest that official servers have are below."""
