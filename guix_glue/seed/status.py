"""How a seed is doing, as a value, and as the file that tells others of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

__all__ = ["LARGEST_STATUS", "SeedStatus", "format_status", "parse_status"]

LARGEST_STATUS: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class SeedStatus:
    """Figures of one moment. Counts of blocks and bytes are since the process began."""

    pid: int
    connected: bool
    """Whether a daemon takes blocks from it."""
    trees: int
    """Those that are offered, and in the index."""
    packed: int
    """Of these, those of which it is known how they were packed."""
    trees_left: int
    trees_failed: int
    to_ask: int
    """Items about which the servers have not answered."""
    data_bytes: int
    """Bytes of files that are in the index."""
    blocks: int
    """Blocks that can be made."""
    index_bytes: int
    read_bytes: int
    read_s: float
    """What was read to make the index, and in how many seconds."""
    asked: int
    given: int
    given_bytes: int
    changed: int
    """Files that were not what they were when they were read."""
    problem: str = ""
    """What keeps it from doing its work, in words."""


def format_status(status: SeedStatus) -> bytes:
    """Write it: JSON."""
    return json.dumps(asdict(status), indent=1).encode() + b"\n"


def parse_status(data: bytes) -> SeedStatus:
    """Read it; what another version has besides is passed over. Raises: ValueError."""
    found: Any = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    try:
        return SeedStatus(**{one.name: found[one.name] for one in fields(SeedStatus)})
    except (KeyError, TypeError) as error:
        raise ValueError(f"a figure is missing: {error}") from error
