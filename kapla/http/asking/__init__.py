"""Blocks from servers of HTTP: stores that are read only, and peers."""
