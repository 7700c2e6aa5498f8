"""What seeds did since the daemon was started."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counts"]


@dataclass(slots=True)
class Counts:
    """Numbers that only grow."""

    seeds: int = 0
    """Connections whose other end was one."""
    refused: int = 0
    """Times that somebody wanted to be one and was not let."""
    wrong: int = 0
    """Seeds that were sent away for a wrong block."""
    asked: int = 0
    """Questions for a block."""
    blocks: int = 0
    """Blocks that they gave, right ones that somebody waited for; and their bytes."""
    bytes: int = 0

    def gave(self, byte_count: int) -> None:
        """One more block."""
        self.blocks += 1
        self.bytes += byte_count

    def told(self, now: int) -> dict[str, int]:
        """For JSON; `now`: how many seeds there are."""
        return {
            "now": now,
            "since_start": self.seeds,
            "refused": self.refused,
            "wrong": self.wrong,
            "asked": self.asked,
            "blocks": self.blocks,
            "bytes": self.bytes,
        }
