"""This machine's store: what is in it, reading items, restoring them."""
