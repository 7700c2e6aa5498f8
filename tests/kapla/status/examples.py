"""Facts as a daemon tells them."""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["everything", "numbers"]

_NOTHING = {"blocks": 0, "bytes": 0}
_NUMBERS: dict[str, Any] = {
    "store": "sqlite",
    "blocks": {"1024": 3, "32768": 93},
    "bytes": {"1024": 3072, "32768": 3047424},
    "database_bytes": 3_358_720,
    "max_size": 10_737_418_240,
    "min_free": None,
    "when_full": "evict",
    "uptime_s": 100.0,
    "started_at": 1_700_000_000.5,
    "disk_free_bytes": 5_000_000_000,
    "requests": {"get": 200, "put": 96, "other": 4, "refused": 1},
    "new_blocks": 96,
    "full_blocks": 0,
    "evicted_blocks": 2,
    "scrubbed_blocks": 50,
    "bad_blocks": 0,
    "connections": {"now": 2, "since_start": 8},
    "traffic": {
        "here": {"blocks": 150, "bytes": 4_000_000},
        "peers": {"blocks": 40, "bytes": 1_000_000},
        "put": {"blocks": 96, "bytes": 3_050_496},
    },
    "listeners": [
        {
            "kind": "coap+unix",
            "connections": 1,
            "here": {"blocks": 150, "bytes": 4_000_000},
            "peers": {"blocks": 40, "bytes": 1_000_000},
            "put": {"blocks": 96, "bytes": 3_050_496},
        },
        {"kind": "peers", "connections": 0, "here": _NOTHING, "peers": _NOTHING, "put": _NOTHING},
    ],
    "keeping": {"pins": 2, "pinned_blocks": 96, "kept_blocks": 93, "lent_blocks": 3},
    "everything": False,
    "peers": [
        {
            "state": "connected",
            "direction": "dialled",
            "found": False,
            "connections": 1,
            "rtt_s": 0.021,
            "rate": 8_000_000,
            "hit_ratio": 0.97,
            "blocks_in": 40,
            "bytes_in": 1_000_000,
            "blocks_out": 0,
            "bytes_out": 0,
        },
        {
            "state": "waiting",
            "direction": None,
            "found": True,
            "connections": 0,
            "rtt_s": 0.5,
            "rate": 0,
            "hit_ratio": None,
            "blocks_in": 0,
            "bytes_in": 0,
            "blocks_out": 0,
            "bytes_out": 0,
        },
    ],
}


def numbers() -> dict[str, Any]:
    """What everybody is told."""
    return copy.deepcopy(_NUMBERS)


def everything() -> dict[str, Any]:
    """What administrators are told."""
    facts = numbers()
    facts["everything"] = True
    facts["peers"][0] |= {"name": "desktop", "address": "192.0.2.7:5684", "why": None}
    facts["peers"][1] |= {"name": None, "key": "ed25519:AAAA", "why": "Connection refused"}
    facts["pins"] = [
        {
            "name": "<b>photos</b>",
            "owner": 1000,
            "keep": True,
            "lend": True,
            "created": 1_700_000_000,
            "blocks": 93,
            "bytes": 3_047_424,
            "missing": 1,
        }
    ]
    facts["transfers"] = [
        {
            "listener": "coap+unix",
            "who": "user 1000",
            "began_at": 1_700_000_050.0,
            "seconds": 3.2,
            "is_open": False,
            "here": {"blocks": 150, "bytes": 4_000_000},
            "peers": {"blocks": 40, "bytes": 1_000_000},
            "put": _NOTHING,
            "sources": {"desktop": {"blocks": 40, "bytes": 1_000_000}},
        }
    ]
    return facts
