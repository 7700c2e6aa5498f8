"""Maps of items to URNs: what a look-up takes over a long link, and how fast one is built."""

from benchmarks.maps.cases import run

__all__ = ["run"]
