"""Blocks over HTTP: what is said on the wire, and both ends of it."""
