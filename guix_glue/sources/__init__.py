"""Where an item can be got from, and what it is out of blocks."""
