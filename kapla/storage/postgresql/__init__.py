"""Blocks and pins in a database of PostgreSQL, which many front ends share."""
