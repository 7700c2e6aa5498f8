"""One block by one request: N2R, or a trustless gateway of IPFS.

Both give bytes for a name and differ in how the name is written. A gateway is asked for raw bytes
in the query and in the header, as its specification has it, since some look at one of them only.
Source: RFC 2169; "Trustless Gateway Specification" of IPFS.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from eris.crypto import reference_of
from eris.errors import BlockNotFound, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.errors import WrongBlock
from kapla.http.asking.exchange import Answer, Exchange
from kapla.http.asking.failures import status_error
from kapla.http.wire.batch import LENT_HEADER
from kapla.http.wire.cid import format_cid
from kapla.http.wire.n2r import N2R_PATH, format_n2r

__all__ = ["Gateway", "Given", "Names", "Resolver", "Single", "check_size", "is_lent"]

_SIZES: Final = (BlockSize.SMALL, BlockSize.LARGE)
_ABSENT: Final = (404, 410)
_NOT_FOR_HEAD: Final = (405, 501)


class Given(NamedTuple):
    """A block that was checked, as a server gave it."""

    data: bytes
    is_lent: bool
    """Whether the server says that it may be given on."""


class Names(Protocol):
    """How a kind of server names blocks."""

    accept: str
    probe: str
    """A path that such a server answers, whatever it has."""

    def target(self, reference: Reference) -> str:
        """Path and query of a block."""
        ...


class Resolver:
    """A server of N2R."""

    accept = "application/octet-stream"
    probe = N2R_PATH

    def target(self, reference: Reference) -> str:
        """Path and query of a block."""
        return format_n2r(reference)


class Gateway:
    """A trustless gateway of IPFS."""

    accept = "application/vnd.ipld.raw"
    # The block of no bytes, which stands in its own name: what gateways are probed with.
    probe = "/ipfs/bafkqaaa?format=raw"

    def target(self, reference: Reference) -> str:
        """Path and query of a block."""
        return f"/ipfs/{format_cid(reference)}?format=raw"


class Single:
    """Asks one server for blocks, one by one; `name` is what people call it."""

    def __init__(self, exchange: Exchange, names: Names, name: str) -> None:
        self._exchange = exchange
        self._names = names
        self._name = name

    async def get(self, reference: Reference) -> Given:
        """Fetch a block, and see that it is the right one.

        Raises: BlockNotFound; WrongBlock; StoreUnavailable.
        """
        target, accept = self._names.target(reference), self._names.accept
        async with self._exchange.ask("GET", target, accept=accept) as answer:
            self._check(answer, reference)
            data = await answer.read(BlockSize.LARGE)
            if answer.length is None and len(data) > BlockSize.LARGE:
                raise WrongBlock(reference, self._name)
        if len(data) not in _SIZES:
            raise WrongBlock(reference, self._name, size=len(data), expected_size=BlockSize.LARGE)
        if reference_of(data) != reference:
            raise WrongBlock(reference, self._name)
        return Given(data, is_lent(answer))

    async def size(self, reference: Reference) -> int | None:
        """How long a block is, without fetching it; None: it is not there; 0: that is not told.

        Raises: StoreUnavailable.
        """
        target, accept = self._names.target(reference), self._names.accept
        async with self._exchange.ask("HEAD", target, accept=accept) as answer:
            if answer.status in _ABSENT:
                return None
            if answer.status in _NOT_FOR_HEAD:
                return await self._size_by_get(reference)
            if answer.status != 200:
                raise self._failed(answer)
            return answer.length or 0

    async def probe(self) -> None:
        """See that something answers there that speaks HTTP. Raises: StoreUnavailable."""
        async with self._exchange.ask("HEAD", self._names.probe) as answer:
            if answer.status >= 500 and answer.status not in _NOT_FOR_HEAD:
                raise self._failed(answer)

    async def _size_by_get(self, reference: Reference) -> int | None:
        try:
            return len((await self.get(reference)).data)
        except (BlockNotFound, WrongBlock):
            return None

    def _check(self, answer: Answer, reference: Reference) -> None:
        if answer.status in _ABSENT:
            raise BlockNotFound(reference)
        if answer.status != 200:
            raise self._failed(answer)
        if answer.is_page:
            # As of a network that wants a password first: nobody lies about the block.
            raise StoreUnavailable(f"{self._name} answers with a text, not with a block")
        if answer.length is not None and answer.length not in _SIZES:
            raise WrongBlock(
                reference, self._name, size=answer.length, expected_size=BlockSize.LARGE
            )

    def _failed(self, answer: Answer) -> StoreUnavailable:
        return status_error(self._name, answer.status, answer.headers.get("Retry-After"))


def is_lent(answer: Answer) -> bool:
    """Whether the answer says that what it gives is lent."""
    return answer.headers.get(LENT_HEADER, "").strip() == "1"


def check_size(reference: Reference, given: Given, block_size: BlockSize, name: str) -> bytes:
    """The block, which is the right one, if it has the size that was asked for.

    Raises: WrongBlock.
    """
    if len(given.data) != block_size:
        raise WrongBlock(reference, name, size=len(given.data), expected_size=int(block_size))
    return given.data
