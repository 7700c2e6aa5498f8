"""What it takes to bring a substitute: out of ERIS blocks, and as a nar over HTTP."""

from benchmarks.substitutes.cases import run

__all__ = ["run"]
