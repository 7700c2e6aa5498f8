"""Blocks in one SQLite file."""
