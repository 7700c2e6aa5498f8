"""How nars are compressed on the way: gzip, lzip and zstd both ways; xz and bzip2 only read."""

from guix_glue.formats.compression.choice import Compression, CompressionChoice, parse_choice
from guix_glue.formats.compression.compressors import Compressor, compressor
from guix_glue.formats.compression.decompressors import Decompressor, decompressor

__all__ = [
    "Compression",
    "CompressionChoice",
    "Compressor",
    "Decompressor",
    "compressor",
    "decompressor",
    "parse_choice",
]
