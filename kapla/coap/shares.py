"""How much one peer may have under way: a share of what all may, while there are few."""

from __future__ import annotations

from typing import Final

from kapla.coap.frame import Code

__all__ = ["LARGE_WEIGHT", "PART", "requests", "slow_weight", "weight"]

# Requests one peer may have outstanding, however many peers there are, and those that all share
# while there are few: a commit for many blocks costs hardly more than one for a few.
_OUTSTANDING: Final = 128
_SHARED_OUTSTANDING: Final = 1024
# What they may weigh together, in KiB of memory: 32 blocks of 32 KiB, or a share of 8 MiB. A GET
# weighs what its Size1 says it will bring, as long as the peer's hints are true.
_WEIGHT: Final = 1024
_SHARED_WEIGHT: Final = 8192
# What a request of the aiocoap lane takes besides its bytes, and how much its bytes multiply there.
_SLOW_WEIGHT: Final = 4
_SLOW_FACTOR: Final = 4

PART: Final = 512
"""The weight of what the store is handed at once, in KiB: it begins before all is there."""

LARGE_WEIGHT: Final = 32
"""What a GET weighs that may bring a block of 32 KiB."""


def requests(peers: int) -> int:
    """How many requests each of so many peers may have outstanding."""
    return max(_OUTSTANDING, _SHARED_OUTSTANDING // peers)


def weight(peers: int) -> int:
    """What these may weigh, in KiB."""
    return max(_WEIGHT, _SHARED_WEIGHT // peers)


def slow_weight(code: int, length: int) -> int:
    """What a request of the aiocoap lane weighs, in KiB; `length`: of its body, in bytes."""
    own = _SLOW_WEIGHT + _SLOW_FACTOR * (length >> 10)
    return own + LARGE_WEIGHT if code == Code.GET else own
