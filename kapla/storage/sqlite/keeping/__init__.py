"""What stays, what goes when room is wanted, and what may be given to others."""
