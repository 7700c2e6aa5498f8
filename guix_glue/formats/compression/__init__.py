"""How nars are compressed on the way: gzip, lzip and zstd both ways; xz and bzip2 only read."""

from typing import TYPE_CHECKING

from eris.lazy import reexport
from guix_glue.formats.compression.choice import (
    Compression,
    CompressionChoice,
    longest_compressed,
    parse_choice,
)

if TYPE_CHECKING:
    from guix_glue.formats.compression.compressors import Compressor, compressor
    from guix_glue.formats.compression.decompressors import Decompressor, decompressor
else:
    # Loaded when there is a nar: who asks what there is needs the names of compressions alone.
    __getattr__ = reexport(
        __name__,
        {
            "compressors": ("Compressor", "compressor"),
            "decompressors": ("Decompressor", "decompressor"),
        },
    )

__all__ = [
    "Compression",
    "CompressionChoice",
    "Compressor",
    "Decompressor",
    "compressor",
    "decompressor",
    "longest_compressed",
    "parse_choice",
]


def __dir__() -> list[str]:
    return __all__
