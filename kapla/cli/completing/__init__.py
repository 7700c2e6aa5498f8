"""Completion for shells: what may stand where the cursor is, in bash, zsh and fish.

`answering.py` is asked by a shell; `kinds.py` tells from a parameter's metavar what it takes;
`urns.py`, `in_trees.py`, `stores.py` find it; `scripts.py` is what the shells run. Names of
contents are private: nothing that is found is kept, and nothing is said of what fails.
"""
