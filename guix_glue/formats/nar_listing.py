"""What is in a nar, as JSON: the listings that binary caches of Nix have beside narinfos. Pure.

    {"version":1,"root":{"type":"directory","entries":{"hello":{"type":"regular","size":6,
    "executable":true,"narOffset":296},"link":{"type":"symlink","target":"hello"}}}}

`narOffset` is where in the plain nar the content of a file begins, so that one file can be had out
of a nar that can be read in parts. The text is made piece by piece, in the order of the nar: so
memory does not grow with the item.

Source: Nix 2.8, what `write-nar-listing` writes; nix.dev, "Nix archive (NAR) listing".
"""

from __future__ import annotations

import json
from typing import assert_never

from guix_glue.errors import UnsupportedItem
from guix_glue.formats.nar import Data, Directory, File, NarEvent, NarPath, NarWriter, Symlink
from guix_glue.formats.nar.layout import CLOSE

__all__ = ["ListingWriter"]

_BEGIN = '{"version":1,"root":'


class ListingWriter:
    """Writes one listing of events; what is returned, put together, is it. `Data` is passed over.

    Contents need not come: a file is said to have as many bytes as its event says.
    """

    def __init__(self) -> None:
        self._nar = NarWriter()
        self._offset = 0
        # For each open directory, whether there was an entry in it.
        self._open: list[bool] = []

    def write(self, event: NarEvent) -> str:
        """Write the next event.

        Raises: UnsupportedItem, for a name or a target that is not UTF-8, as text in JSON is;
        ValueError, if the event may not come here, which is the caller's mistake.
        """
        if isinstance(event, Data):
            return ""
        self._offset += self._nar.skip()
        self._offset += len(self._nar.write(event))
        head = self._begin(event.path)
        match event:
            case Directory():
                self._open.append(False)
                return head + '{"type":"directory","entries":{'
            case File(path, size, executable):
                mode = ',"executable":true' if executable else ""
                # What ends an empty file was written with its head.
                ended = 0 if size else len(CLOSE) * (2 if path else 1)
                offset = self._offset - ended
                return f'{head}{{"type":"regular","size":{size}{mode},"narOffset":{offset}}}'
            case Symlink(path, target):
                return f'{head}{{"type":"symlink","target":{_text(target, path)}}}'
            case _:
                assert_never(event)

    def finish(self) -> str:
        """Write what ends the listing.

        Raises: ValueError, if there was no event.
        """
        self._nar.skip()
        self._nar.finish()
        end = "}}" * len(self._open) + "}"
        self._open.clear()
        return end

    def _begin(self, path: NarPath) -> str:
        """Close the directories that are over, and name an entry."""
        if not path:
            return _BEGIN
        closed = "}}" * (len(self._open) - len(path))
        del self._open[len(path) :]
        comma = "," if self._open[-1] else ""
        self._open[-1] = True
        return f"{closed}{comma}{_text(path[-1], path)}:"


def _text(text: bytes, path: NarPath) -> str:
    try:
        return json.dumps(text.decode())
    except UnicodeDecodeError:
        where = b"/".join(path).decode("utf-8", "backslashreplace")
        raise UnsupportedItem(where, "it is not UTF-8, and so in no listing") from None
