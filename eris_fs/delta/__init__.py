"""Deltas: a new tree out of an old one. `docs/formats.md` is the specification."""
