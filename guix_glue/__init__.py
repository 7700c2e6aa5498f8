"""Guix substitutes out of ERIS, and into it.

Will hold the publisher, which adds ERIS URNs to narinfos, and the fetcher, which lets the Guix
daemon get substitutes from blocks and falls back to HTTP. Nothing is here yet: the package fixes
the place in the layers, above `eris_fs` and beside `kapla`.
"""
