"""Guix substitutes out of ERIS, and into it: a publisher, and a fetcher that falls back to HTTP.

What it trusts is in `trust/`, what it reads and writes in `formats/`; `local/` is this machine's
store, `publish/` the server, `fetch/` the substituter, and `cli/` their commands.
"""
