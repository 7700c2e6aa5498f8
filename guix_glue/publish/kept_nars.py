"""Nars out of the cache: a file as it lies there, or unpacked, whatever a narinfo has named once.

Options change, and items leave the store; what a client was told may be asked for long after. So a
nar in any compression that is there is served, and the plain one as long as there is any.

Synchronous, for worker threads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from functools import partial
from typing import Final

from guix_glue.errors import CompressionError
from guix_glue.formats.compression import Compression, CompressionChoice, decompressor
from guix_glue.kept.records import Baked
from guix_glue.publish.baking import choice_key
from guix_glue.publish.cache import BakedCache
from guix_glue.serving.reply import FileBody, StreamBody

__all__ = ["KeptNars"]

_log = logging.getLogger(__name__)

_PIECE: Final = 256 * 1024
# What is unpacked fastest comes first.
_TO_UNPACK: Final = (Compression.ZSTD, Compression.GZIP, Compression.LZIP)


class KeptNars:
    """The nars of a cache; of two levels of one method, that of `choices` comes first."""

    def __init__(self, cache: BakedCache, choices: Sequence[CompressionChoice]) -> None:
        self._cache = cache
        self._preferred = {choice.method: choice_key(choice) for choice in choices}

    def open(self, baked: Baked, method: Compression) -> FileBody | None:
        """The nar in a compression, as it is kept."""
        for choice in self._kept(baked, method):
            file = self._cache.open_file(baked, choice)
            if file is not None:
                return FileBody(file, os.fstat(file.fileno()).st_size)
        return None

    def unpack(self, baked: Baked) -> StreamBody | None:
        """The plain nar, out of whatever is kept."""
        for method in _TO_UNPACK:
            for choice in self._kept(baked, method):
                file = self._cache.open_file(baked, choice)
                if file is not None:
                    file.close()
                    pieces = partial(self._pieces, baked, choice, method)
                    return StreamBody(pieces, baked.item.nar_size)
        return None

    def _kept(self, baked: Baked, method: Compression) -> list[str]:
        choices = [
            file.choice for file in baked.files if file.choice.partition(":")[0] == method.value
        ]
        return sorted(choices, key=lambda choice: choice != self._preferred.get(method))

    def _pieces(
        self, baked: Baked, choice: str, method: Compression
    ) -> Generator[bytes, None, None]:
        file = self._cache.open_file(baked, choice)
        if file is None:
            # Whoever sends it sees that it is too short.
            return
        codec = decompressor(method)
        with file:
            try:
                while data := file.read(_PIECE):
                    yield from codec.feed(data)
                codec.finish()
            except CompressionError as error:
                _log.warning("The nar %s of %s: %s", choice, baked.item.base_name, error)
                self._cache.drop_file(baked, choice)
