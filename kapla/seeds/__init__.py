"""Seeds: programs of this machine that make blocks again from files, asked before peers are."""
