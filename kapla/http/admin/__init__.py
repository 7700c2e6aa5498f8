"""What the daemon tells of itself, to this machine alone."""
