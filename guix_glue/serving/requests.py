"""Which requests a server has answered since it was started: each counted when it is over."""

from __future__ import annotations

from collections import Counter
from typing import Final

__all__ = ["Requests"]

_KINDS: Final = ("narinfo", "nar", "other")


class Requests:
    """Those that were answered. `nar_path`: the parts of the path below which nars are."""

    def __init__(self, nar_path: tuple[str, ...]) -> None:
        self._nars = "/" + "".join(f"{part}/" for part in nar_path)
        self.kinds: Counter[str] = Counter(dict.fromkeys(_KINDS, 0))
        self.statuses: Counter[str] = Counter()
        """By the first digit of their status: `2xx`."""
        self.sent_bytes = 0
        self.cut_off = 0
        """How many were not sent whole."""

    def answered(self, path: str, status: int, sent: int, *, whole: bool) -> None:
        """A request is over."""
        kind = "narinfo" if path.endswith(".narinfo") else "other"
        self.kinds["nar" if path.startswith(self._nars) else kind] += 1
        self.statuses[f"{status // 100}xx"] += 1
        self.sent_bytes += sent
        self.cut_off += not whole
