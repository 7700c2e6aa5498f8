"""What can be wrong with a seed and its index."""

from __future__ import annotations

from guix_glue.errors import GuixError

__all__ = ["DamagedIndex", "IndexInUse", "IndexNotWritten", "NotSeeded", "SeedError"]


class SeedError(GuixError):
    """The seed cannot start: its index, its options, the store."""

    exit_code = 1


class IndexInUse(SeedError):
    """Another process keeps this index."""

    def __init__(self, directory: str) -> None:
        super().__init__(
            f"another kapla seed uses the index in {directory}: give this one an --index of its own"
        )


class DamagedIndex(SeedError):
    """A file of the index is not what was written; it is made anew."""


class IndexNotWritten(SeedError):
    """The index cannot be written now; what it has is as it was."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the index cannot be written: {error.strerror or error}")


class NotSeeded(SeedError):
    """A tree cannot be seeded; the message says why."""
