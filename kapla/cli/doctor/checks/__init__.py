"""The checks: each a function of facts that gives findings, in the order in which people ask."""

from __future__ import annotations

from collections.abc import Iterator

from kapla.cli.doctor.checks import daemon, disk, files, machine, peers
from kapla.cli.doctor.facts import Facts
from kapla.cli.doctor.finding import Finding

__all__ = ["findings"]

_ALL = (*daemon.CHECKS, *disk.CHECKS, *peers.CHECKS, *files.CHECKS, *machine.CHECKS)


def findings(facts: Facts) -> Iterator[Finding]:
    """What all checks say of these facts."""
    for check in _ALL:
        yield from check(facts)
