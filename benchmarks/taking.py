"""`python -m benchmarks.taking URL HASH_PART STORE_DIR`: what a stock client does.

Asks for the narinfo and then for the nar, unpacks what is compressed, compares the hash, and writes
nothing. Prints the seconds that both took together, and how many bytes came. It is a program of its
own so that it can be run behind a link.
"""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
from typing import Final
from urllib.parse import urlsplit

from guix_glue.formats.compression import Compression, decompressor
from guix_glue.formats.narinfo import Narinfo, parse_narinfo

__all__ = ["get_narinfo", "read_nar", "take"]

_PIECE: Final = 1024 * 1024
_PATIENCE_S: Final = 600


def take(url: str, hash_part: str, store_dir: str) -> tuple[float, int]:
    """Take an item from a server; seconds, and bytes as they came."""
    begin = time.perf_counter()
    size = read_nar(url, get_narinfo(url, hash_part, store_dir))
    return time.perf_counter() - begin, size


def get_narinfo(url: str, hash_part: str, store_dir: str) -> Narinfo:
    """Ask for the narinfo of an item."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE_S)
    connection.request("GET", f"/{hash_part}.narinfo")
    text = connection.getresponse().read()
    connection.close()
    return parse_narinfo(text, store_dir=store_dir)


def read_nar(url: str, narinfo: Narinfo) -> int:
    """Read an item's nar to its end; how many bytes came. Raises: RuntimeError, if it is wrong."""
    unpacking = decompressor(Compression(narinfo.urls[0].compression))
    digest, size = hashlib.sha256(), 0
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE_S)
    connection.request("GET", f"/{narinfo.urls[0].url}")
    reply = connection.getresponse()
    while data := reply.read1(_PIECE):
        size += len(data)
        for piece in unpacking.feed(data):
            digest.update(piece)
    connection.close()
    if digest.digest() != narinfo.item.nar_hash:
        raise RuntimeError(f"{url} did not send the nar")
    return size


def main() -> None:
    """See the module."""
    seconds, size = take(*sys.argv[1:])
    print(seconds, size)


if __name__ == "__main__":
    main()
