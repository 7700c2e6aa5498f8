"""The commands for Guix: the only modules here that choose a store."""
