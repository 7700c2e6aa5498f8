"""What is said about pins on the wire, as a client writes and reads it. Pure.

Requests and answers are CBOR maps with text keys; references are raw. See `docs/wire.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import cbor2

from eris.errors import StoreFull, StoreRefused, StoreUnavailable
from eris.model import Reference
from kapla.coap.blocks import ENDPOINT_STORE_PATH, error_of_code
from kapla.coap.frame import Code, Option, OptionNumber, encode_options, encode_uint
from kapla.pins import PinSummary

__all__ = [
    "format_request",
    "good_answer",
    "nonsense",
    "read_map",
    "read_summary",
    "told",
]

_CBOR: Final = encode_uint(60)
_SUCCESS: Final = 2
_COUNTS: Final = ("owner", "created", "small", "large", "own_small", "own_large", "missing")


def format_request(
    store_path: Sequence[str],
    names: Sequence[str],
    asked: Mapping[str, object] | None,
    query: Sequence[str] = (),
) -> bytes:
    """The options and payload of a request; what is None in `asked` is left out."""
    path = (*(store_path or ENDPOINT_STORE_PATH), *names)
    options: list[Option] = [(OptionNumber.URI_PATH, part.encode()) for part in path]
    if asked is not None:
        options.append((OptionNumber.CONTENT_FORMAT, _CBOR))
    options += [(OptionNumber.URI_QUERY, one.encode()) for one in query]
    body = encode_options(options)
    if asked is None:
        return body
    given = {key: value for key, value in asked.items() if value is not None}
    return body + b"\xff" + cbor2.dumps(given)


def good_answer(code: int, payload: bytes) -> bytes:
    """The payload of a good answer.

    Raises: StoreError, for any other.
    """
    if code >> 5 == _SUCCESS:
        return payload
    if code == Code.REQUEST_ENTITY_TOO_LARGE:
        raise StoreFull(told(payload) or "the store has no room for this")
    if code in (Code.CONFLICT, Code.NOT_FOUND):
        raise StoreRefused(told(payload) or "the store has no such pin")
    raise error_of_code(code, b"", payload, is_get=False)


def told(payload: bytes) -> str:
    """What the store says of a refusal, as far as a person can read it."""
    text = payload[:500].decode("utf-8", "replace")
    return "".join(letter for letter in text if letter.isprintable())


def read_map(payload: bytes) -> Mapping[Any, Any]:
    """Read the map that an answer is.

    Raises: StoreUnavailable.
    """
    try:
        found = cbor2.loads(payload)
    except Exception:  # it reads numbers of many kinds, each with errors of its own
        found = None
    if not isinstance(found, dict):
        raise nonsense()
    return found


def read_summary(found: object) -> PinSummary:
    """Read a summary.

    Raises: StoreUnavailable.
    """
    if not isinstance(found, dict):
        raise nonsense()
    name, root = found.get("name"), found.get("root")
    if not isinstance(name, str) or not isinstance(root, bytes | None):
        raise nonsense()
    switches = [found.get(key) for key in ("keep", "lend")]
    if not all(isinstance(switch, bool) for switch in switches):
        raise nonsense()
    keep, lend = map(bool, switches)
    counts = dict(zip(_COUNTS, _counts(found), strict=True))
    known = None if root is None else Reference(root)
    return PinSummary(name=name, root=known, keep=keep, lend=lend, **counts)


def _counts(found: Mapping[Any, Any]) -> Iterator[int]:
    for key in _COUNTS:
        count = found.get(key)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**64:
            raise nonsense()
        yield count


def nonsense() -> StoreUnavailable:
    """The error of an answer that is none."""
    return StoreUnavailable("the store's answer about pins makes no sense")
