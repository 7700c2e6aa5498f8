"""What went over the connections of one check, in short, for whoever looks into a failure.

Bounded in lines and in bytes of each. The path of a store may be a capability, so its bytes are
written as stars, in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kapla.conformance.model import Seen

__all__ = ["Transcript"]

_MOST_LINES: Final = 40
_MOST_BYTES: Final = 96


class Transcript:
    """The first lines of what was sent and seen."""

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        self._secrets = [secret for secret in secrets if secret]
        self._lines: list[Seen] = []

    def add(self, data: bytes, *, sent: bool) -> None:
        """Note what was sent, or seen."""
        if len(self._lines) < _MOST_LINES:
            # More than is kept, so that a secret at the edge is known as one.
            head = self._hidden(data[: _MOST_BYTES + max(map(len, self._secrets), default=0)])
            self._lines.append(Seen(sent, head[:_MOST_BYTES], len(data)))

    def lines(self) -> tuple[Seen, ...]:
        """What was noted."""
        return tuple(self._lines)

    def _hidden(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, b"*" * len(secret))
        return data
