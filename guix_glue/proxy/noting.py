"""Notes which items went through a proxy by a signed narinfo that everybody may have.

Who gives items of this machine to others reads that, and so has to ask nobody: see `kapla seed`. An
item is noted when its nar was made, and was right; with it the URN by which it came, as what that
leads to was compared with the signed hash.
"""

from __future__ import annotations

import asyncio
from typing import Final

from eris.capability import ReadCapability
from eris.threads import in_thread, settle
from guix_glue.kept.public_notes import PublicNotes
from guix_glue.servers.publicness import is_public
from guix_glue.servers.remembered import Remembered
from guix_glue.sources.order import ErisSource, Source
from guix_glue.sources.vouching import Vouched
from guix_glue.trust.authorities import Authorities

__all__ = ["Noting"]

# A proxy of a whole network is asked for the same again and again.
_NOTED_S: Final = 86_400.0
_NOTED_KEPT: Final = 10_000


class Noting:
    """Writes into `notes` what somebody of `authorities` has signed. `close()` it."""

    def __init__(self, notes: PublicNotes, authorities: Authorities) -> None:
        self._notes = notes
        self._authorities = authorities
        self._noted: Remembered[tuple[bytes, ReadCapability | None]] = Remembered(
            _NOTED_S, length=_NOTED_KEPT
        )
        self._tasks: set[asyncio.Task[None]] = set()

    def came(self, vouched: Vouched, source: Source) -> None:
        """The nar of an item was made of a source. Nobody waits for what is done about it."""
        capability = source.capability if isinstance(source, ErisSource) else None
        key = vouched.narinfo.item.nar_hash, capability
        if key in self._noted:
            return
        self._noted.add(key)
        task = asyncio.create_task(in_thread(self._note, vouched, capability))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Write down what is left."""
        await settle(*self._tasks)

    def _note(self, vouched: Vouched, capability: ReadCapability | None) -> None:
        for one in vouched.candidates:
            if is_public(one.server) and self._authorities.is_signed(one.narinfo):
                self._notes.note(one.narinfo, capability)
                return
