"""Stores at the other end of connections, asked for what is not here. Knows no SQL."""
