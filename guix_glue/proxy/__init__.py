"""A substitute server for the clients of this machine, in front of others and of blocks."""
