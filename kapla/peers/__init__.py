"""Stores at the other end of connections: who they are, and how they are asked."""
