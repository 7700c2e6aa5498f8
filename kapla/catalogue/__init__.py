"""What this user has stored: names, URNs, and where the blocks are. For the command line alone.

A catalogue holds URNs, and whoever reads one can read the content. So it is a file of the user's
own, and nothing of the daemon imports this package: a test reads the imports.
"""
