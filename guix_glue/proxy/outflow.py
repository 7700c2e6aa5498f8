"""What of a nar may go out, while it comes from one source and, if that fails, from the next. Pure.

A client cannot be told in the middle to begin again. So whatever goes on with a nar has to give the
beginning once more: it is hashed, and compared with what went out already. The last bytes are held
back until the hash of the whole is the one that is signed; nobody ever gets all of a wrong nar.
"""

from __future__ import annotations

import hashlib
from typing import Final

from guix_glue.errors import FetchFailed, HashMismatch, InvalidNar

__all__ = ["HELD", "OtherBeginning", "Outflow"]

HELD: Final = 64 * 1024
"""Bytes that are held back: enough that a client sees that something is missing."""


class OtherBeginning(HashMismatch):
    """What a source begins with is not what went out: one of both is not the nar."""


class Outflow:
    """A nar of `nar_size` bytes, with this SHA-256; all but the last `held` bytes may go unjudged.

    ```python
    for source in sources:
        outflow.begin()
        for piece in source:
            send(outflow.feed(piece))
        send(outflow.finish())       # unless that raises
    ```

    Memory is what is held back, and no more.
    """

    def __init__(self, nar_hash: bytes, nar_size: int, held: int = HELD) -> None:
        self.sent = 0
        """Bytes that were given out."""
        self._expected = nar_hash
        self._size = nar_size
        self._free = max(0, nar_size - held)
        # Of the source: its bytes so far, the hash of all but the held ones, and these.
        self._came = 0
        self._hash = hashlib.sha256()
        self._held = bytearray()
        # Of what went out. It is that of the source, unless this has not come so far yet.
        self._sent_hash = self._hash

    def begin(self) -> None:
        """A source begins, from the start of the nar."""
        self._came = 0
        self._hash = hashlib.sha256()
        self._held.clear()
        if not self.sent:
            self._sent_hash = self._hash

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the source; gives those that may go out now.

        Raises: OtherBeginning; FetchFailed, if there are more than the nar has.
        """
        if self._came + len(data) > self._size:
            raise FetchFailed(f"the nar is longer than {self._size} bytes")
        if self._came < self.sent:
            data = self._compare(data)
        free = max(0, self._free - self._came)
        out, held = (data[:free], data[free:]) if len(data) > free else (data, b"")
        self._came += len(data)
        self._held += held
        self._hash.update(out)
        self.sent += len(out)
        return out

    def finish(self) -> bytes:
        """The source says that this was all; gives what was held back.

        Raises: HashMismatch; InvalidNar, if it is too short.
        """
        if self._came < self._size:
            raise InvalidNar("it ends too early", self._came)
        whole = self._hash.copy()
        whole.update(self._held)
        if whole.digest() != self._expected:
            raise HashMismatch(self._expected, whole.digest())
        rest = bytes(self._held)
        self._held.clear()
        self.sent = self._size
        return rest

    def _compare(self, data: bytes) -> bytes:
        """Take what went out before; gives the rest."""
        again, rest = data[: self.sent - self._came], data[self.sent - self._came :]
        self._hash.update(again)
        self._came += len(again)
        if self._came == self.sent:
            sent, comes = self._sent_hash.digest(), self._hash.digest()
            if sent != comes:
                raise OtherBeginning(sent, comes)
            self._sent_hash = self._hash
        return rest
