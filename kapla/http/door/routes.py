"""From the target of a request to what it asks for. Pure.

The methods of each path are told here too, so that the answer to a wrong one names the right ones.
What a target cannot be is said in one line, without the target: that was somebody's wish.
Source: RFC 2169, section 2; the trustless gateway specification of IPFS; RFC 9110, 9112.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from eris.model import Reference
from kapla.http.wire.batch import BATCH_PATH
from kapla.http.wire.cid import parse_cid
from kapla.http.wire.n2r import N2R_PATH, parse_n2r_query

__all__ = [
    "Batch",
    "BlockOf",
    "Home",
    "Malformed",
    "NoPath",
    "Probe",
    "Route",
    "methods_of",
    "parse_target",
]

_IPFS: Final = "/ipfs/"
_PROBE: Final = "bafkqaaa"
"""The CID of nothing, by which clients find out whether there is a gateway."""
_LONGEST: Final = 1024
"""Of a target: far more than all that there is."""
_RAW_TYPE: Final = "application/vnd.ipld.raw"
_READ: Final = ("GET", "HEAD")
_SCHEME: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


class Malformed(Exception):
    """A target is none; `status` is that of the answer, and the message its text."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class NoPath(Exception):
    """There is nothing of this path, whatever the method."""


@dataclass(frozen=True, slots=True)
class BlockOf:
    """A block. `cid`: by which it was asked for at the gateway; None: by N2R."""

    reference: Reference
    cid: str | None = None
    varies: bool = False
    """Whether it was the header `Accept` that told the form."""
    methods: tuple[str, ...] = _READ


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether there is a gateway."""

    methods: tuple[str, ...] = _READ


@dataclass(frozen=True, slots=True)
class Batch:
    """Many blocks; which, the body tells."""

    methods: tuple[str, ...] = ("POST",)


@dataclass(frozen=True, slots=True)
class Home:
    """What there is here."""

    methods: tuple[str, ...] = _READ


Route = BlockOf | Probe | Batch | Home


def methods_of(target: str) -> tuple[str, ...]:
    """The methods of a target's path, whether or not the rest of it makes sense.

    Raises: NoPath.
    """
    path, _ = _parts(target)
    if path == BATCH_PATH:
        return Batch().methods
    if path in ("/", N2R_PATH) or path.startswith(_IPFS):
        return _READ
    raise NoPath


def parse_target(target: str, accept: str | None = None) -> Route:
    """Read the target of a request, as it was sent, and its header `Accept`.

    Raises: Malformed, NoPath.
    """
    if len(target) > _LONGEST:
        raise Malformed(f"the target is longer than {_LONGEST} characters", 414)
    path, query = _parts(target)
    if path == N2R_PATH:
        try:
            return BlockOf(parse_n2r_query(query))
        except ValueError as error:
            raise Malformed(f"this names no block: {error}") from None
    if path == BATCH_PATH:
        return Batch()
    if path == "/":
        return Home()
    if path.startswith(_IPFS):
        return _gateway(path.removeprefix(_IPFS), query, accept)
    raise NoPath


def _parts(target: str) -> tuple[str, str]:
    """Path and query; of a whole URL, as proxies send it, those of that."""
    whole = _SCHEME.match(target)
    if whole is not None:
        target = target[whole.end() :]
        target = target if target.startswith("/") else "/" + target
    path, _, query = target.partition("?")
    return path, query


def _gateway(name: str, query: str, accept: str | None) -> Route:
    cid, slash, rest = name.partition("/")
    if rest:
        raise Malformed("a block has no paths below it")
    if slash:
        raise Malformed("a slash follows the CID")
    varies = _check_form(query, accept)
    if cid == _PROBE:
        return Probe()
    try:
        return BlockOf(parse_cid(cid), cid, varies)
    except ValueError as error:
        raise Malformed(f"there is no block of this CID: {error}") from None


def _check_form(query: str, accept: str | None) -> bool:
    """Whether a block is wanted as it is; returns whether it was `Accept` that said so.

    As the specification has it, a gateway that does not decode answers nothing that leaves it open.
    Raises: Malformed.
    """
    formats = [item[len("format=") :] for item in query.split("&") if item.startswith("format=")]
    if formats:
        if set(formats) != {"raw"}:
            raise Malformed("blocks are given as they are: the only format is raw")
        return False
    types = {one.partition(";")[0].strip().lower() for one in (accept or "").split(",")}
    if _RAW_TYPE in types:
        return True
    if types & {"", "*/*", "application/*"}:
        raise Malformed(f"say ?format=raw, or Accept: {_RAW_TYPE}; nothing is decoded here")
    raise Malformed(f"what is given here is {_RAW_TYPE}", 406)
