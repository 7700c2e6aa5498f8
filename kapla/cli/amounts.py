"""Amounts as people read them: those of `kapla.amounts`, under a name for commands."""

from kapla.amounts import blocks_text, bytes_text, duration_text

__all__ = ["blocks_text", "bytes_text", "duration_text"]
