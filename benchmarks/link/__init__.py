"""A long link on one machine, and what Kapla makes of it."""

from benchmarks.link.cases import run
from benchmarks.link.emulator import Link, Side, link

__all__ = ["Link", "Side", "link", "run"]
