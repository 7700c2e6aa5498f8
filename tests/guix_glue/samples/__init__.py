"""Where the captured data is; README.md there tells its origin."""

from pathlib import Path

__all__ = ["SAMPLES"]

SAMPLES = Path(__file__).parent
