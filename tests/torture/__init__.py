"""Random work on stores while everything fails that can, and what must hold afterwards.

`python -m tests.torture real` has real daemons and clients; `simulated` has a recorded disk, of
which thousands of states are tried in a minute. Both print seeds that do the same again.
"""
