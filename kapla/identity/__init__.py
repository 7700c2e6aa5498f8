"""Keys that name peers, and TLS with them."""
