"""Whether the daemon reaches its peers, and is reached. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from kapla.cli.doctor.facts import Facts
from kapla.cli.doctor.finding import Finding, ok, warning

__all__ = ["CHECKS"]

_MOST_NAMED: Final = 5
_LONGEST: Final = 240
# What is said where another key came than was wanted, or one that was wrong: kapla.identity has it.
_OF_KEYS: Final = ("was expected there", "certificate", "key")


def peers(facts: Facts) -> Iterator[Finding]:
    """Whether those that are dialled are there."""
    told = [peer for store in facts.stores for peer in store.peers if not peer.get("found")]
    lost = [peer for peer in told if peer.get("state") == "waiting"]
    for peer in lost[:_MOST_NAMED]:
        why = str(peer.get("why") or "it cannot be reached")[:_LONGEST]
        yield warning("peers", f"the peer {_name(peer)} is away: {why}", _mend(why))
    if len(lost) > _MOST_NAMED:
        yield warning("peers", f"{len(lost) - _MOST_NAMED} more peers are away", "kapla peers")
    if told and not lost:
        yield ok("peers", f"none of {len(told)} peers is missed")


def ports(facts: Facts) -> Iterator[Finding]:
    """Whether listeners of the settings take connections, where a daemon runs."""
    if not any(store.socket and store.error is None for store in facts.stores):
        return
    for host, port, error in facts.settings.ports:
        if error is not None:
            yield warning(
                "listeners",
                f"nobody takes connections on port {port} of {host}: {error}",
                "start the daemon again, if the setting is new; else look for a packet filter",
            )


def _name(peer: dict[str, Any]) -> str:
    return str(peer.get("name") or peer.get("key") or peer.get("url") or "without a name")[:80]


def _mend(why: str) -> str:
    if any(word in why for word in _OF_KEYS):
        return "compare its key with what kaplad --print-key prints there, and set the right one"
    return "see that it runs and its port is open there; kapla peers tells when it is tried again"


CHECKS: Final[tuple[Callable[[Facts], Iterator[Finding]], ...]] = (peers, ports)
