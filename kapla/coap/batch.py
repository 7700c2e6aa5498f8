"""Sorting waiting requests into what is handed on together.

This is the hottest loop of the server, so it keeps to local names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from eris.model import BlockSize, Reference
from kapla.coap import fast_lane, shares
from kapla.coap.connection import is_request
from kapla.coap.frame import Code, Frame, encode_uint

__all__ = ["Batch", "Limits", "take_batch"]

# How a GET ends that says it expects 1 KiB.
_SMALL_HINT: Final = encode_uint(BlockSize.SMALL)
# Plain numbers: an attribute of an enumeration takes as long as the rest of the comparison.
_GET: Final = int(Code.GET)
_PUT: Final = int(Code.PUT)
_PING: Final = int(Code.PING)


class Limits(NamedTuple):
    """What a batch may hold."""

    requests: int
    weight: int
    """In KiB."""
    whole_blocks: bool
    """Whether the peer takes blocks in one piece: else the slow lane cuts them."""
    trust_hints: bool
    """Whether a GET weighs what its Size1 says."""
    put_room: int
    """KiB that may be put: where nothing is left, a PUT has to wait, with all behind it."""


class Batch(NamedTuple):
    """GETs and PUTs of blocks, in order, with their tokens and their weights in KiB."""

    taken: int
    """How many requests were taken, those of the slow lane included."""
    gets: list[Reference]
    get_hops: dict[int, int]
    """The Hop-Limit of those that have one, by their place in the list."""
    get_tokens: list[bytes]
    get_weight: int
    puts: list[bytes]
    put_tokens: list[bytes]
    put_weight: int
    put_kib: int
    """What was put, in either lane."""
    is_held_up: bool
    """Whether a PUT has to wait."""


def take_batch(
    waiting: deque[Frame], limits: Limits, take_slow_lane: Callable[[Frame], int | None]
) -> Batch:
    """Take requests from the front, as far as the limits allow.

    `take_slow_lane` takes one of the others, or a Ping, and tells its weight, or None to have it
    wait.
    """
    room, weight_left, whole, light, put_room = limits
    is_held_up = False
    gets: list[Reference] = []
    get_hops: dict[int, int] = {}
    get_tokens: list[bytes] = []
    puts: list[bytes] = []
    put_tokens: list[bytes] = []
    get_weight = put_weight = responses = 0
    requested_reference, large_weight = fast_lane.requested_reference, shares.LARGE_WEIGHT
    relayed_reference = fast_lane.relayed_reference
    while waiting and room > 0 and weight_left > 0:
        frame = waiting.popleft()
        code, token, buffer, start, stop = frame
        room -= 1
        if code == _GET and whole:
            reference = requested_reference(buffer, start, stop)
            if reference is None:
                relayed = relayed_reference(buffer, start, stop)
                if relayed is not None:
                    reference, get_hops[len(gets)] = relayed
            if reference is not None:
                gets.append(reference)
                get_tokens.append(token)
                weight = large_weight
                if light and buffer.endswith(_SMALL_HINT, start, stop):
                    weight = 1
                get_weight += weight
                weight_left -= weight
                continue
        elif code == _PUT:
            if put_weight >= put_room:
                waiting.appendleft(frame)
                room += 1
                is_held_up = True
                break
            payload = fast_lane.put_payload_start(buffer, start, stop)
            if payload is not None:
                puts.append(buffer[payload:stop])
                put_tokens.append(token)
                weight = (stop - payload) >> 10
                put_weight += weight
                weight_left -= weight
                continue
        if code == _PING:
            # One with Custody, whose Pong is sent when all before it is answered.
            if gets or puts or take_slow_lane(frame) is None:
                waiting.appendleft(frame)
                room += 1
                break
            continue
        if not is_request(code):
            # A response to nothing: this end sends no requests.
            room += 1
            responses += 1
            continue
        slow = take_slow_lane(frame)
        if slow is None:
            waiting.appendleft(frame)
            room += 1
            break
        weight_left -= slow
        if code == _PUT:
            put_room -= (stop - start) >> 10 or 1
    taken = limits.requests - room + responses
    put_kib = put_weight + limits.put_room - put_room
    return Batch(
        taken,
        gets,
        get_hops,
        get_tokens,
        get_weight,
        puts,
        put_tokens,
        put_weight,
        put_kib,
        is_held_up,
    )
