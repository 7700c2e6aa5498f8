"""Lent blocks for the world: N2R, a trustless gateway, batches."""
