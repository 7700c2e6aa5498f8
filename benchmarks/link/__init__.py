"""A long link on one machine, and what Kapla makes of it."""

from benchmarks.link.cases import run
from benchmarks.link.emulator import Link, LinkUnavailable, Side, link

__all__ = ["Link", "LinkUnavailable", "Side", "link", "run"]
