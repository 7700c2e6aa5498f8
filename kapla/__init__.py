"""Kapla: a daemon that keeps ERIS blocks, its client and its command line."""

__version__ = "0.1.0"
